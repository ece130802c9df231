/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A small MSS among the first eight TCP options, with a cursor that moves. */
#include <oko.h>

SEC("filter")
int tcp_mss(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct tcphdr *tcp;
	struct iphdr *ip;
	__u8 *option, *behind;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp || !tcp->syn)
		return 0;
	option = (__u8 *)(tcp + 1);
	behind = (__u8 *)tcp + tcp->doff * 4;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (option + 4 > (__u8 *)cursor.end || option >= behind)
			break;
		if (option[0] == 0)
			break;
		if (option[0] == 2 && option[1] == 4)
			return (option[2] << 8 | option[3]) < 536;
		if (option[0] == 1) {
			option++;
			continue;
		}
		if (option[1] < 2 || option[1] > 40)
			break;
		option += option[1];
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
