/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The services' programs on one interface: each takes what is its own and passes the rest on to the next. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Places in `slots`, in the order in which packets come by; dispatcher.py names them too. */
enum slot { RELAY_SLOT, STUN_SLOT, SLOTS };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

/* Hand a packet to the first program from a slot on; with none left there it is the network stack's. */
static __always_inline int pass_on(struct xdp_md *ctx, __u32 from)
{
#pragma unroll
	for (__u32 slot = 0; slot < SLOTS; slot++)
		if (slot >= from)
			bpf_tail_call(ctx, &slots, slot);
	return XDP_PASS;
}
