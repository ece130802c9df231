/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Runs p0f as a program of its own: its result is the program's. */
#include <oko.h>

/* p0f becomes internal, inlined, and no longer "used" by its section: a call of a function in another section would
 * need the switch's linker. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int p0f(struct xdp_md *ctx);

#include "../../bpf_programs/p0f.c"

SEC("xdp")
int p0f_harness(struct xdp_md *ctx)
{
	return p0f(ctx);
}
