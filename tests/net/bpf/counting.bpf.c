// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Counts frames by their first octet, and says what to do with them by a table: all that the loader's tests need. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 default_action = XDP_PASS;

struct verdict {
	__u32 action;
	__u32 seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct verdict);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

SEC("xdp")
int counting(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 first, zero = 0;
	struct verdict *verdict;
	__u64 *count;

	if (data + 1 > end)
		return XDP_ABORTED;
	first = *data;
	count = bpf_map_lookup_elem(&counts, &first);
	if (count)
		__sync_fetch_and_add(count, 1);
	count = bpf_map_lookup_elem(&total, &zero);
	if (count)
		*count += 1;
	verdict = bpf_map_lookup_elem(&verdicts, &first);
	if (!verdict)
		return default_action;
	__sync_fetch_and_add(&verdict->seen, 1);
	*data = 0xee;
	return verdict->action;
}

char _license[] SEC("license") = "Dual MIT/GPL";
