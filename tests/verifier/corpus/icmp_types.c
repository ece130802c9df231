/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Types of ICMP in a mask of bits. */
#include <oko.h>

SEC("filter")
int icmp_types(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	const __u64 allowed = 1ULL << 0 | 1ULL << 3 | 1ULL << 8 | 1ULL << 11;
	struct oko_icmp *icmp;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_ICMP)
		return OKO_NO_MATCH;
	icmp = oko_parse_icmp(&cursor);
	if (!icmp)
		return OKO_NO_MATCH;
	if (icmp->type < 64 && (allowed >> icmp->type & 1))
		return OKO_NO_MATCH;
	return OKO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
