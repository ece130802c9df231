/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A prefix of 48 bits as source, by words. */
#include <oko.h>

SEC("filter")
int ipv6_prefix(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct ipv6hdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IPV6))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv6(&cursor);
	if (!ip)
		return OKO_NO_MATCH;
	return ip->saddr.in6_u.u6_addr32[0] == bpf_htonl(0x20010db8) &&
	       ip->saddr.in6_u.u6_addr16[2] == bpf_htons(0x0042);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
