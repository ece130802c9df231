/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The firewall behind twenty rules, as one program. */
#include <oko.h>

/* The filter program becomes internal, inlined, and no longer "used" by its section: a call of a function in another
 * section would need the switch's linker. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int firewall(struct xdp_md *ctx);

#include "../../bpf_programs/firewall.c"

#include "services.h"

/* In OpenFlow's numbers. Not inlined, because it is declared as the switch's. */
__attribute__((noinline)) __u32 oko_in_port(struct xdp_md *ctx)
{
	return 1 + port_of(ctx);
}

SEC("xdp")
int firewall_by_hand(struct xdp_md *ctx)
{
	return serve(ctx, firewall);
}
