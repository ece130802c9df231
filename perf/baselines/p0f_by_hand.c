/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* p0f behind twenty rules, as one program. */
#include <oko.h>

/* The filter program becomes internal, inlined, and no longer "used" by its section: a call of a function in another
 * section would need the switch's linker. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int p0f(struct xdp_md *ctx);

#include "../../bpf_programs/p0f.c"

#include "services.h"

SEC("xdp")
int p0f_by_hand(struct xdp_md *ctx)
{
	return serve(ctx, p0f);
}
