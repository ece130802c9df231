/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A switch without its pipeline fails closed. */
#include "stub.h"

SEC("xdp")
int oko_stub(struct xdp_md *ctx)
{
	return run_pipeline(ctx, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
