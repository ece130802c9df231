/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Both headers of IP in IP have the same source. */
#include <oko.h>

SEC("filter")
int ip_in_ip(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *outer, *inner;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	outer = oko_parse_ipv4(&cursor);
	if (!outer || outer->protocol != IPPROTO_IPIP)
		return 0;
	inner = oko_parse_ipv4(&cursor);
	if (!inner)
		return 0;
	return inner->saddr == outer->saddr || inner->protocol == IPPROTO_IPIP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
