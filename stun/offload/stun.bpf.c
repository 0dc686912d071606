// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Answers Binding requests before the network stack sees them, as user space answered the same client a moment ago.
 *
 * A request is taken only when user space has lately answered its source at that very endpoint, when it is bare or
 * has a shape that user space has shown us (and then the right fingerprint), is whole and sound, when its source has
 * a reply left in its buckets, and when the way back is the way it came. Everything else goes on to the sockets.
 * Nothing is decided here that user space has not decided before: replies are copies of its templates.
 *
 * Layouts are those of layout.py. The licence of this file is what bpf_fib_lookup asks for.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "nattrav/net/bpf/headers.h"

#define DONT_FRAGMENT 0x4000

#define HEADER 20
#define BINDING_REQUEST 0x0001
#define COOKIE 0x2112A442
#define REQUEST_WORDS 22
#define TAIL_WORDS 16
#define REPLY_WORDS 32
#define VARYING 30 /* transaction id, port, IPv6 address */
#define SHAPES 4

/* Nanoseconds a token takes to grow and all of a bucket's take; an interval of 0 sets no limit. */
struct limit {
	__u64 interval, burst;
};

/* Written once. How long a next hop is remembered (ns); the interface routes are asked for; hop limits of this host. */
volatile struct {
	struct limit source, network;
	__u64 hop_time;
	__u32 route_from;
	__u8 ttl, hop_limit;
	__u8 pad[2];
} settings;

/* IPv4 addresses as IPv4-mapped IPv6 addresses; `place` is 0 for one of ours, else the endpoint a client asks. */
struct key {
	__be32 host[4];
	__be16 port;
	__u16 place;
};

struct client {
	__u64 until;
	__u64 hop_until;
	__u8 hop_target[6], hop_source[6];
	__u32 exempt;
};

struct template {
	__u32 length, mapped, xored, width, constant, pad;
	__u32 bytes[REPLY_WORDS];
	__u32 tables[VARYING * 256];
};

struct shape {
	__u32 length, words, fingerprint, constant;
	__u32 tail[TAIL_WORDS];
	__u32 tables[12 * 256];
};

struct count {
	__u64 answered, received, sent, limited;
};

struct scratch {
	__u32 request[REQUEST_WORDS];
	__u32 reply[REPLY_WORDS];
	__u8 varying[VARYING];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct key);
	__type(value, __u32);
} endpoints SEC(".maps");

/* The interfaces that requests may come in by, by index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct key);
	__type(value, struct client);
} clients SEC(".maps");

/* When the last token taken will have grown again, by prefix. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} buckets SEC(".maps");

/* Two for each endpoint: without and with fingerprint. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct template);
} templates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHAPES);
	__type(key, __u32);
	__type(value, struct shape);
} shapes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xFFFFFFFF) + (sum >> 32);
	sum = (sum & 0xFFFF) + (sum >> 16);
	sum = (sum & 0xFFFF) + (sum >> 16);
	return (sum & 0xFFFF) + (sum >> 16);
}

/* One token, if there is one; buckets as admission.py has them. */
static __always_inline int take(__u64 prefix, __u64 interval, __u64 burst, __u64 now)
{
	__u64 *full, fresh;

	if (!interval)
		return 1;
	full = bpf_map_lookup_elem(&buckets, &prefix);
	if (!full) {
		fresh = now + interval;
		bpf_map_update_elem(&buckets, &prefix, &fresh, BPF_ANY);
		return 1;
	}
	fresh = (*full > now ? *full : now) + interval;
	if (fresh - now > burst)
		return 0;
	*full = fresh;
	return 1;
}

static __always_inline int admitted(const struct key *key, int four, __u64 now)
{
	/* Network keys carry a mark where those of sources have bits of their address, or none. */
	__u64 source = four ? (__u64)key->host[3] : (__u64)key->host[0] | (__u64)key->host[1] << 32;
	__u64 network = four ? ((__u64)key->host[3] & 0x00FFFFFF) | 1ULL << 62
			     : ((__u64)key->host[0] | ((__u64)key->host[1] & 0xFFFF) << 32) | 1ULL << 63;

	return take(source, settings.source.interval, settings.source.burst, now) &&
	       take(network, settings.network.interval, settings.network.burst, now);
}

/* Whether the way back is the way the request came. */
static __always_inline int find_hop(struct xdp_md *ctx, struct client *client, const struct ipv4 *four,
				    const struct ipv6 *six, __u64 now)
{
	struct bpf_fib_lookup way = {};

	way.l4_protocol = UDP;
	way.tot_len = 128;
	way.ifindex = settings.route_from;
	if (four) {
		way.family = AF_INET;
		way.ipv4_src = four->target;
		way.ipv4_dst = four->source;
	} else {
		way.family = AF_INET6;
		__builtin_memcpy(way.ipv6_src, six->target, 16);
		__builtin_memcpy(way.ipv6_dst, six->source, 16);
	}
	if (bpf_fib_lookup(ctx, &way, sizeof(way), 0) != BPF_FIB_LKUP_RET_SUCCESS || way.ifindex != ctx->ingress_ifindex)
		return 0;
	__builtin_memcpy(client->hop_target, way.dmac, 6);
	__builtin_memcpy(client->hop_source, way.smac, 6);
	client->hop_until = now + settings.hop_time;
	return 1;
}

/* The shape of a request with attributes: 0 none of them, 1 without and 2 with the right fingerprint. */
static __always_inline int find_shape(struct scratch *scratch, __u32 length)
{
	for (__u32 number = 0; number < SHAPES; number++) {
		struct shape *shape = bpf_map_lookup_elem(&shapes, &number);
		__u32 same = 1, crc, last;
		__u8 *tid = (__u8 *)&scratch->request[2];

		if (!shape || shape->length != length)
			continue;
		for (__u32 i = 0; i < TAIL_WORDS; i++) {
			if (i >= shape->words)
				break;
			if (scratch->request[5 + i] != shape->tail[i])
				same = 0;
		}
		if (!same)
			continue;
		if (!shape->fingerprint)
			return 1;
		crc = shape->constant;
		for (int i = 0; i < 12; i++)
			crc ^= shape->tables[i * 256 + tid[i]];
		last = (length >> 2) - 1;
		if (last >= REQUEST_WORDS)
			return 0;
		return scratch->request[last] == bpf_htonl(crc) ? 2 : 0;
	}
	return 0;
}

static __always_inline int write_reply(struct scratch *scratch, struct template *template, const struct key *key, int four)
{
	__u8 *reply = (__u8 *)scratch->reply, *varying = scratch->varying;
	int width = four ? 6 : 18;
	__u32 mapped = template->mapped, xored = template->xored;
	__u32 crc = template->constant;

	__builtin_memcpy(scratch->reply, template->bytes, sizeof(scratch->reply));
	__builtin_memcpy(&scratch->reply[1], &scratch->request[1], 16);
	__builtin_memcpy(varying, &scratch->request[2], 12);
	__builtin_memcpy(varying + 12, &key->port, 2);
	if (four)
		__builtin_memcpy(varying + 14, &key->host[3], 4);
	else
		__builtin_memcpy(varying + 14, key->host, 16);
	if (mapped > 96 || xored > 96)
		return 0;
	if (mapped)
		for (int i = 0; i < width; i++)
			reply[mapped + i] = varying[12 + i];
	if (xored) {
		reply[xored] = varying[12] ^ 0x21;
		reply[xored + 1] = varying[13] ^ 0x12;
		/* Cookie and transaction id stand together, as the mask does. */
		for (int i = 2; i < width; i++)
			reply[xored + i] = varying[12 + i] ^ ((__u8 *)scratch->request)[2 + i];
	}
	if (template->width) {
		__u32 last = (template->length >> 2) - 1;

		for (__u32 i = 0; i < VARYING; i++) {
			if (i >= template->width)
				break;
			crc ^= template->tables[i * 256 + varying[i]];
		}
		if (last >= REPLY_WORDS)
			return 0;
		scratch->reply[last] = bpf_htonl(crc);
	}
	return 1;
}

static __always_inline int answer(struct xdp_md *ctx, struct ethernet *ethernet, struct ipv4 *four, struct ipv6 *six,
				  struct udp *udp, void *end)
{
	__u32 *number, index, arrived = ctx->ingress_ifindex, zero = 0, size, whole, heads, words, length, check;
	__u32 *request = (void *)(udp + 1);
	struct key ours = {}, theirs = {};
	struct template *template;
	struct scratch *scratch;
	struct client *client;
	struct count *count;
	__u64 now, sum, pseudo;
	struct device *here;
	void *data;
	int shape = 0;

	if ((void *)(request + 5) > end)
		return XDP_PASS;
	if (four) {
		ours.host[2] = theirs.host[2] = bpf_htonl(0xFFFF);
		ours.host[3] = four->target;
		theirs.host[3] = four->source;
		heads = sizeof(struct ethernet) + sizeof(*four) + sizeof(*udp);
		pseudo = (__u64)four->source + four->target;
	} else {
		__builtin_memcpy(ours.host, six->target, 16);
		__builtin_memcpy(theirs.host, six->source, 16);
		heads = sizeof(struct ethernet) + sizeof(*six) + sizeof(*udp);
		pseudo = 0;
#pragma unroll
		for (int i = 0; i < 4; i++)
			pseudo += (__u64)six->source[i] + six->target[i];
	}
	ours.port = udp->target;
	number = bpf_map_lookup_elem(&endpoints, &ours);
	if (!number)
		return XDP_PASS;
	if (*(__be16 *)request != bpf_htons(BINDING_REQUEST) || request[1] != bpf_htonl(COOKIE))
		return XDP_PASS;
	here = bpf_map_lookup_elem(&devices, &arrived);
	if (!here || !meant_for(here, ethernet))
		return XDP_PASS;
	theirs.port = udp->source;
	theirs.place = *number;
	now = bpf_ktime_get_ns();
	client = bpf_map_lookup_elem(&clients, &theirs);
	if (!client || now >= client->until)
		return XDP_PASS;

	size = HEADER + bpf_ntohs(((__be16 *)request)[1]);
	whole = bpf_xdp_get_buff_len(ctx);
	if (size & 3 || size > REQUEST_WORDS * 4 || bpf_ntohs(udp->length) != size + sizeof(*udp) || heads + size > whole)
		return XDP_PASS;
	sum = 0;
	if (four) {
		__u16 *word = (__u16 *)four;

		if (bpf_ntohs(four->length) != size + sizeof(*udp) + sizeof(*four))
			return XDP_PASS;
#pragma unroll
		for (int i = 0; i < 10; i++)
			sum += word[i];
		if (fold(sum) != 0xFFFF)
			return XDP_PASS;
	} else if (bpf_ntohs(six->length) != size + sizeof(*udp) || !udp->checksum) {
		return XDP_PASS;
	}
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!scratch)
		return XDP_PASS;
	words = size >> 2;
	sum = pseudo + bpf_htons(UDP) + udp->length + udp->source + udp->target + udp->length + udp->checksum;
	for (__u32 i = 0; i < REQUEST_WORDS; i++) {
		if (i >= words)
			break;
		if ((void *)(request + i + 1) > end)
			return XDP_PASS;
		scratch->request[i] = request[i];
		sum += request[i];
	}
	/* A local sender leaves the checksum to a device that is not there: only the stack can tell. */
	if (udp->checksum && fold(sum) != 0xFFFF)
		return XDP_PASS;
	if (size > HEADER) {
		shape = find_shape(scratch, size);
		if (!shape)
			return XDP_PASS;
	}
	index = *number * 2 + (shape == 2);
	template = bpf_map_lookup_elem(&templates, &index);
	count = bpf_map_lookup_elem(&counts, &index);
	if (!template || !count || !template->length)
		return XDP_PASS;
	length = template->length;
	if (length > REPLY_WORDS * 4 || length < HEADER)
		return XDP_PASS;
	if (now >= client->hop_until && !find_hop(ctx, client, four, six, now))
		return XDP_PASS;
	if (!client->exempt && !admitted(&theirs, !!four, now)) {
		count->limited++;
		return XDP_DROP;
	}
	if (!write_reply(scratch, template, &theirs, !!four))
		return XDP_PASS;
	/* Room is made in front, where drivers leave some; behind a frame there often is none. */
	if (bpf_xdp_adjust_head(ctx, (int)whole - (int)(heads + length)))
		return XDP_PASS;

	/* From here on the request is gone: what cannot be finished is lost, and will be asked again. */
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ethernet = data;
	if ((void *)(ethernet + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(ethernet->target, client->hop_target, 6);
	__builtin_memcpy(ethernet->source, client->hop_source, 6);
	sum = pseudo + bpf_htons(UDP);
	if (heads == sizeof(struct ethernet) + sizeof(struct ipv4) + sizeof(struct udp)) {
		__u16 *word;
		__u64 header = 0;

		four = (void *)(ethernet + 1);
		udp = (void *)(four + 1);
		if ((void *)(udp + 1) > end)
			return XDP_DROP;
		ethernet->type = bpf_htons(ETH_P_IP);
		four->version_length = 0x45;
		four->tos = 0;
		four->length = bpf_htons(length + sizeof(*udp) + sizeof(*four));
		four->id = 0;
		four->fragment = bpf_htons(DONT_FRAGMENT);
		four->ttl = settings.ttl;
		four->protocol = UDP;
		four->checksum = 0;
		four->source = ours.host[3];
		four->target = theirs.host[3];
		word = (__u16 *)four;
#pragma unroll
		for (int i = 0; i < 10; i++)
			header += word[i];
		four->checksum = ~fold(header);
	} else {
		six = (void *)(ethernet + 1);
		udp = (void *)(six + 1);
		if ((void *)(udp + 1) > end)
			return XDP_DROP;
		ethernet->type = bpf_htons(ETH_P_IPV6);
		six->first = bpf_htonl(6U << 28);
		six->length = bpf_htons(length + sizeof(*udp));
		six->next = UDP;
		six->hops = settings.hop_limit;
		__builtin_memcpy(six->source, ours.host, 16);
		__builtin_memcpy(six->target, theirs.host, 16);
	}
	udp->source = ours.port;
	udp->target = theirs.port;
	udp->length = bpf_htons(length + sizeof(*udp));
	sum += (__u64)udp->length + udp->source + udp->target + udp->length;
	for (__u32 i = 0; i < REPLY_WORDS; i++) {
		if (i * 4 >= length)
			break;
		sum += scratch->reply[i];
	}
	check = ~fold(sum) & 0xFFFF;
	udp->checksum = check ? check : 0xFFFF;
	if (bpf_xdp_store_bytes(ctx, heads, scratch->reply, length))
		return XDP_DROP;
	count->answered++;
	count->received += size;
	count->sent += length;
	return XDP_TX;
}

SEC("xdp")
int stun(struct xdp_md *ctx)
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
		return answer(ctx, ethernet, four, 0, udp, end);
	}
	if (ethernet->type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6 *six = (void *)(ethernet + 1);
		struct udp *udp = (void *)(six + 1);

		if ((void *)(udp + 1) > end)
			return XDP_PASS;
		if (six->next != UDP || *(__u8 *)six >> 4 != 6 || mapped(six->target))
			return XDP_PASS;
		return answer(ctx, ethernet, 0, six, udp, end);
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
/* Who built this object: another compiler makes another one. */
char _compiler[] SEC("compiler") = __VERSION__;
