/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A switch that is attached to Open vSwitch leaves every packet to it when it is without its pipeline, if it is to fail
 * open. */
#include "stub.h"

SEC("xdp")
int oko_stub_open(struct xdp_md *ctx)
{
	return run_pipeline(ctx, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
