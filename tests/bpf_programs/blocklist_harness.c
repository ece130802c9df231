/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Runs the blocklist as a program of its own: its result is the program's. */
#include <oko.h>

/* As in firewall_harness.c. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int blocklist(struct xdp_md *ctx);

#include "../../bpf_programs/blocklist.c"

SEC("xdp")
int blocklist_harness(struct xdp_md *ctx)
{
	return blocklist(ctx);
}
