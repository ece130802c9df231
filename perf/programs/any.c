/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter program that matches every frame: one of the two that a reload alternates between. */
#include <oko.h>

SEC("filter")
int any(struct xdp_md *ctx)
{
	(void)ctx;
	return OKO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
