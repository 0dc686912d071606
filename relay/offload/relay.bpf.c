// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Forwards the RTP of latched flows before the network stack sees it.
 *
 * A packet is taken only when everything about it is as the user-space plane has settled it: it came to one of our
 * interfaces, for the local address of a flow, from the source that flow has latched, is whole, plain, sound, RTP
 * by RFC 7983 and RFC 5761, no larger and no more frequent than the flow may send, and there is a way to its target.
 * Everything else goes on to the sockets untouched, which know what to do about it. Nothing is learned here.
 *
 * Layouts are those of layout.py. The licence of this file is what bpf_fib_lookup asks for.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "nattrav/net/bpf/headers.h"
#include "nattrav/net/bpf/slots.h"

#define SECOND 1000000000ULL

#define RTP_HEADER 12
/* What an Ethernet frame carries at least. */
#define SHORTEST 46
/* RFC 3550 appendix A.1, as relay/rtp.py has them. */
#define MAX_DROPOUT 3000
#define MAX_MISORDER 100
/* Two packets' transit times differ by more than this on a new timeline only (nanoseconds). */
#define TRANSIT_JUMP (2 * SECOND)

struct rtp {
	__u8 first, second;
	__be16 sequence;
	__be32 timestamp, ssrc;
};

/*
 * How long a next hop is remembered (ns); until when user space answers for the flows, which it says again and again;
 * which object this is; the interface routes are asked for; hop limits of what this host sends.
 */
volatile struct {
	__u64 hop_time;
	__u64 alive_until;
	__u64 build;
	__u32 route_from;
	__u8 ttl, hop_limit;
	__u8 pad[2];
} settings;

/* IPv4 addresses as IPv4-mapped IPv6 addresses. */
struct key {
	__be32 host[4];
	__be16 port;
	__u16 pad;
};

struct flow {
	__be32 remote[4];
	__be32 source[4];
	__be32 target[4];
	__be16 remote_port, source_port, target_port;
	__u16 size_limit;
	__u32 rate_limit;
	__u32 row;
	/* Sums over old addresses and ports for the pseudo header, and from old to new for the checksum. */
	__u32 pseudo;
	__u16 change;
	__u8 tos;
	__u8 pad;
	/* The next hop, remembered until then for packets no longer than that. */
	__u64 hop_until;
	__u32 hop_index;
	__u32 hop_length;
	__u16 hop_target[3];
	__u16 hop_source[3];
	/* Which offloading of the flow this is; user space knows. */
	__u32 serial;
};

struct row {
	__u64 packets, bytes, limited;
	__u64 last;
	__u64 duplicates, reordered, expected_before;
	__s64 base_sequence, max_sequence, last_sequence;
	__u64 arrival;
	__u64 jitter; /* nanoseconds, times 16 */
	__u64 tick;   /* nanoseconds of one timestamp unit, times 1024 */
	__u64 window;
	__u32 window_count;
	__u32 ssrc;
	__u32 timestamp;
	__u8 payload_type, started;
	__u8 pad[2];
};

enum reason { NOT_PLAIN, NOT_SOUND, TOO_LONG, OTHER_SOURCE, NO_WAY, FOREIGN_DEVICE, ABANDONED, REASONS };

/* What is said of a packet beside the actions: no flow of ours, or a flow's that goes to its socket for a reason. */
#define NO_FLOW 16
#define LEFT 32

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, struct flow);
} flows SEC(".maps");

/* The interfaces we are attached to, by index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

/* Shared with user space as memory: what it reads costs no system call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} left SEC(".maps");

static __always_inline __u32 fold(__u32 sum)
{
	sum = (sum & 0xFFFF) + (sum >> 16);
	return (sum & 0xFFFF) + (sum >> 16);
}

static __always_inline int same(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* RFC 3550 appendices A.1, A.3 and A.8, as relay/tally.py does it for many packets at once. */
static __always_inline void follow(struct row *row, const struct rtp *rtp, __u64 now)
{
	__u32 ssrc = bpf_ntohl(rtp->ssrc), timestamp = bpf_ntohl(rtp->timestamp);
	__u16 sequence = bpf_ntohs(rtp->sequence);
	__s64 step = (__s16)(sequence - (__u16)row->last_sequence);
	__s64 extended = row->last_sequence + step;

	if (!row->started || row->ssrc != ssrc || step > MAX_DROPOUT || step < -MAX_MISORDER) {
		if (row->started)
			row->expected_before += row->max_sequence - row->base_sequence + 1;
		row->base_sequence = row->max_sequence = extended = sequence;
		row->ssrc = ssrc;
		row->started = 1;
	} else {
		__s64 ticks = (__s32)(timestamp - row->timestamp);
		__s64 differs = (__s64)(now - row->arrival) - ((ticks * (__s64)row->tick) >> 10);

		if (extended > row->max_sequence)
			row->max_sequence = extended;
		else if (extended == row->max_sequence)
			row->duplicates++;
		else
			row->reordered++;
		if (differs < 0)
			differs = -differs;
		if (differs > (__s64)TRANSIT_JUMP)
			differs = 0;
		row->jitter += differs - ((row->jitter + 8) >> 4);
	}
	row->last_sequence = extended;
	row->timestamp = timestamp;
	row->arrival = now;
	row->payload_type = rtp->second & 0x7F;
}

static __always_inline int find_hop(struct xdp_md *ctx, struct flow *flow, __u32 length, int six, __u64 now)
{
	struct bpf_fib_lookup way = {};

	way.family = six ? AF_INET6 : AF_INET;
	way.l4_protocol = UDP;
	way.sport = flow->source_port;
	way.dport = flow->target_port;
	way.tot_len = length;
	way.ifindex = settings.route_from;
	if (six) {
		way.flowinfo = bpf_htonl((__u32)flow->tos << 20);
		__builtin_memcpy(way.ipv6_src, flow->source, 16);
		__builtin_memcpy(way.ipv6_dst, flow->target, 16);
	} else {
		way.tos = flow->tos;
		way.ipv4_src = flow->source[3];
		way.ipv4_dst = flow->target[3];
	}
	if (bpf_fib_lookup(ctx, &way, sizeof(way), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	__builtin_memcpy(flow->hop_target, way.dmac, 6);
	__builtin_memcpy(flow->hop_source, way.smac, 6);
	flow->hop_index = way.ifindex;
	flow->hop_length = length;
	flow->hop_until = now + settings.hop_time;
	return 1;
}

static __always_inline int carry(struct xdp_md *ctx, struct ethernet *ethernet, struct ipv4 *four, struct ipv6 *six,
				 struct udp *udp, struct rtp *rtp, void *end)
{
	__u32 arrived, leaves, size, length, whole, check, row_number;
	struct key key = {};
	struct device *here;
	__be32 remote[4];
	struct flow *flow;
	struct row *row;
	__u64 now;

	if (four) {
		key.host[2] = remote[2] = bpf_htonl(0xFFFF);
		remote[0] = remote[1] = 0;
		key.host[3] = four->target;
		remote[3] = four->source;
	} else {
		__builtin_memcpy(key.host, six->target, 16);
		__builtin_memcpy(remote, six->source, 16);
	}
	key.port = udp->target;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return NO_FLOW;
	if (flow->remote_port != udp->source || !same(flow->remote, remote))
		return LEFT + OTHER_SOURCE;

	arrived = ctx->ingress_ifindex;
	here = bpf_map_lookup_elem(&devices, &arrived);
	if (!here || !meant_for(here, ethernet))
		return LEFT + FOREIGN_DEVICE;

	if ((void *)(rtp + 1) > end)
		return LEFT + NOT_PLAIN;
	size = bpf_ntohs(udp->length);
	if (size < sizeof(*udp) + RTP_HEADER)
		return LEFT + NOT_PLAIN;
	if (rtp->first >> 6 != 2 || (rtp->second >= 192 && rtp->second < 224))
		return LEFT + NOT_PLAIN;
	whole = bpf_xdp_get_buff_len(ctx) - sizeof(*ethernet);
	if (four) {
		__u16 *word = (__u16 *)four;
		__u32 sum = 0;

		length = bpf_ntohs(four->length);
		if (length != size + sizeof(*four) || length > whole)
			return LEFT + NOT_SOUND;
#pragma unroll
		for (int i = 0; i < 10; i++)
			sum += word[i];
		if (fold(sum) != 0xFFFF)
			return LEFT + NOT_SOUND;
	} else {
		length = size + sizeof(*six);
		if (bpf_ntohs(six->length) != size || length > whole || !udp->checksum)
			return LEFT + NOT_SOUND;
	}
	/* Beyond a datagram there may be what fills the shortest frame up; more would travel uncounted. */
	if (whole > length && whole > SHORTEST)
		return LEFT + NOT_SOUND;
	/* A local sender leaves the checksum to a device that is not there: only the stack can tell. */
	if (udp->checksum && udp->checksum == fold(flow->pseudo + udp->length))
		return LEFT + NOT_SOUND;
	if (size - sizeof(*udp) > flow->size_limit)
		return LEFT + TOO_LONG;

	now = bpf_ktime_get_ns();
	if (now >= settings.alive_until)
		return LEFT + ABANDONED;
	row_number = flow->row;
	row = bpf_map_lookup_elem(&rows, &row_number);
	if (!row)
		return LEFT + NO_WAY;
	if (now - row->window >= SECOND) {
		row->window = now;
		row->window_count = 0;
	}
	if (row->window_count >= flow->rate_limit) {
		row->limited++;
		return XDP_DROP;
	}
	if (now >= flow->hop_until || length > flow->hop_length)
		if (!find_hop(ctx, flow, length, !four, now))
			return LEFT + NO_WAY;
	leaves = flow->hop_index;
	if (leaves != arrived) {
		struct device *there = bpf_map_lookup_elem(&devices, &leaves);

		/* A driver takes frames from another only while a program of ours runs in it. */
		if (!there || there->native < here->native)
			return LEFT + FOREIGN_DEVICE;
	}

	row->last = now;
	row->window_count++;
	row->packets++;
	row->bytes += size - sizeof(*udp);
	follow(row, rtp, now);

	__builtin_memcpy(ethernet->target, flow->hop_target, 6);
	__builtin_memcpy(ethernet->source, flow->hop_source, 6);
	if (four) {
		__u16 *word = (__u16 *)four;
		__u32 sum = 0;

		four->tos = flow->tos;
		/* May be fragmented further on, like what a socket of ours sends: so it needs a number. */
		four->id = bpf_get_prandom_u32();
		four->fragment = 0;
		four->ttl = settings.ttl;
		four->checksum = 0;
		four->source = flow->source[3];
		four->target = flow->target[3];
#pragma unroll
		for (int i = 0; i < 10; i++)
			sum += word[i];
		four->checksum = ~fold(sum);
	} else {
		six->first = bpf_htonl(6U << 28 | (__u32)flow->tos << 20);
		six->hops = settings.hop_limit;
		__builtin_memcpy(six->source, flow->source, 16);
		__builtin_memcpy(six->target, flow->target, 16);
	}
	udp->source = flow->source_port;
	udp->target = flow->target_port;
	if (udp->checksum) {
		check = ~fold((__u16)~udp->checksum + flow->change) & 0xFFFF;
		udp->checksum = check ? check : 0xFFFF;
	}
	return leaves == arrived ? XDP_TX : bpf_redirect(leaves, 0);
}

/* Do as was said of a packet. */
static __always_inline int settle(struct xdp_md *ctx, __u32 verdict)
{
	__u32 reason = verdict - LEFT;
	__u64 *count;

	if (verdict == NO_FLOW)
		return pass_on(ctx, RELAY_SLOT + 1);
	if (verdict < LEFT)
		return verdict;
	count = bpf_map_lookup_elem(&left, &reason);
	if (count)
		*count += 1;
	return XDP_PASS;
}

SEC("xdp")
int relay(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethernet *ethernet = data;

	if ((void *)(ethernet + 1) > end)
		return XDP_PASS;
	if (ethernet->type == bpf_htons(ETH_P_IP)) {
		struct ipv4 *four = (void *)(ethernet + 1);
		struct udp *udp = (void *)(four + 1);

		if ((void *)(udp + 1) > end)
			return XDP_PASS;
		if (four->version_length != 0x45 || four->protocol != UDP || four->fragment & bpf_htons(FRAGMENT))
			return XDP_PASS;
		return settle(ctx, carry(ctx, ethernet, four, 0, udp, (void *)(udp + 1), end));
	}
	if (ethernet->type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6 *six = (void *)(ethernet + 1);
		struct udp *udp = (void *)(six + 1);

		if ((void *)(udp + 1) > end)
			return XDP_PASS;
		if (six->next != UDP || *(__u8 *)six >> 4 != 6 || mapped(six->target))
			return XDP_PASS;
		return settle(ctx, carry(ctx, ethernet, 0, six, udp, (void *)(udp + 1), end));
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
/* Who built this object: another compiler makes another one. */
char _compiler[] SEC("compiler") = __VERSION__;
