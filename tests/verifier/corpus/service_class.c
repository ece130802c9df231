/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* DSCP and ECN of either family. */
#include <oko.h>

SEC("filter")
int service_class(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u8 class;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type))
		return 0;
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = oko_parse_ipv4(&cursor);

		if (!ip)
			return 0;
		class = ip->tos;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = oko_parse_ipv6(&cursor);

		if (!ip)
			return 0;
		class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	} else {
		return 0;
	}
	return class >> 2 == 46 || (class & 3) == 3;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
