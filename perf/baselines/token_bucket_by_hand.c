/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The token bucket behind twenty rules, as one program. */
#include <oko.h>

/* The filter program becomes internal, inlined, and no longer "used" by its section: a call of a function in another
 * section would need the switch's linker. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int token_bucket(struct xdp_md *ctx);

#include "../../bpf_programs/token_bucket.c"

#include "services.h"

SEC("xdp")
int token_bucket_by_hand(struct xdp_md *ctx)
{
	return serve(ctx, token_bucket);
}
