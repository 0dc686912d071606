// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What is attached to an interface, which takes one program only: it runs those of the services that are there. */
#include "nattrav/net/bpf/slots.h"

SEC("xdp")
int dispatch(struct xdp_md *ctx)
{
	return pass_on(ctx, RELAY_SLOT);
}

char _license[] SEC("license") = "Dual MIT/GPL";
/* Who built this object: another compiler makes another one. */
char _compiler[] SEC("compiler") = __VERSION__;
