/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Four bytes anywhere among the first 32 of the payload. */
#include <oko.h>

SEC("filter")
int payload_search(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__u8 *payload;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP || !oko_parse_udp(&cursor))
		return 0;
	payload = oko_parse_bytes(&cursor, 32);
	if (!payload)
		return 0;
#pragma unroll
	for (int i = 0; i < 29; i++)
		if (payload[i] == 'E' && payload[i + 1] == 'V' && payload[i + 2] == 'I' && payload[i + 3] == 'L')
			return 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
