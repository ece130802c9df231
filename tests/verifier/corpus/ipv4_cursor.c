/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* HTTP and HTTPS over IPv4, with the cursor. */
#include <oko.h>

SEC("filter")
int ipv4_cursor(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP || oko_is_later_fragment(ip))
		return OKO_NO_MATCH;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp)
		return OKO_NO_MATCH;
	return tcp->dest == bpf_htons(80) || tcp->dest == bpf_htons(443);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
