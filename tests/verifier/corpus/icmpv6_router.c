/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Router advertisements with a hop limit other than 255. */
#include <oko.h>

struct icmpv6 {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 body;
};

SEC("filter")
int icmpv6_router(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct icmpv6 *icmp;
	struct ipv6hdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type))
		return OKO_NO_MATCH;
	if (type != bpf_htons(ETH_P_IPV6) || !(ip = oko_parse_ipv6(&cursor)) || ip->nexthdr != IPPROTO_ICMPV6)
		return OKO_NO_MATCH;
	icmp = oko_parse_bytes(&cursor, sizeof(*icmp));
	return icmp && icmp->type == 134 && (icmp->code || ip->hop_limit != 255);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
