/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter program that matches frames whose source address is odd. */
#include <oko.h>

SEC("filter")
int odd_source(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	const struct ethhdr *header = oko_parse_bytes(&cursor, sizeof(*header));

	return header && header->h_source[ETH_ALEN - 1] & 1 ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
