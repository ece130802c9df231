/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter program that matches every frame with an Ethernet header, which is every frame: the other of the two that
 * a reload alternates between. */
#include <oko.h>

SEC("filter")
int ethernet(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__be16 type;

	return oko_parse_ethernet(&cursor, &type) ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
