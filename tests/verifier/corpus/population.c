/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Bits that are set in the source address, by the usual masks. */
#include <oko.h>

SEC("filter")
int population(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct ipv6hdr *ip;
	__u64 bits;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IPV6))
		return 0;
	ip = oko_parse_ipv6(&cursor);
	if (!ip)
		return 0;
	bits = (__u64)ip->saddr.in6_u.u6_addr32[2] << 32 | ip->saddr.in6_u.u6_addr32[3];
	bits -= bits >> 1 & 0x5555555555555555;
	bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return bits * 0x0101010101010101 >> 56 > 40;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
