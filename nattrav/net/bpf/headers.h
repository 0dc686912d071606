/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Headers as they lie on the wire, for the programs that read frames before the network stack does. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define AF_INET 2
#define AF_INET6 10
#define UDP 17
#define FRAGMENT 0x3FFF /* more fragments, or not the first */

struct ethernet {
	__u16 target[3];
	__u16 source[3];
	__be16 type;
};

struct ipv4 {
	__u8 version_length, tos;
	__be16 length, id, fragment;
	__u8 ttl, protocol;
	__u16 checksum;
	__be32 source, target;
};

struct ipv6 {
	__be32 first;
	__be16 length;
	__u8 next, hops;
	__be32 source[4], target[4];
};

struct udp {
	__be16 source, target, length;
	__u16 checksum;
};

/* Interfaces that programs of ours run on, at most. */
#define DEVICES 64

/* One of them: its address, and whether programs run in its driver. */
struct device {
	__u16 mac[3];
	__u8 native;
	__u8 pad;
};

static __always_inline int meant_for(const struct device *here, const struct ethernet *ethernet)
{
	return ethernet->target[0] == here->mac[0] && ethernet->target[1] == here->mac[1] &&
	       ethernet->target[2] == here->mac[2];
}

/* Whether an IPv6 address stands for an IPv4 one, as in our maps: on the wire it is nobody's. */
static __always_inline int mapped(const __be32 *address)
{
	return !address[0] && !address[1] && address[2] == bpf_htonl(0xFFFF);
}
