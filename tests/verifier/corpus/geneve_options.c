/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A Geneve header whose options have a length in words. */
#include <oko.h>

SEC("filter")
int geneve_options(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	__u8 *geneve;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp || udp->dest != bpf_htons(6081))
		return 0;
	geneve = oko_parse_bytes(&cursor, 8);
	if (!geneve || geneve[2] != 0x65 || geneve[3] != 0x58)
		return 0;
	if (!oko_parse_bytes(&cursor, (geneve[0] & 0x3f) * 4))
		return 0;
	return oko_parse_ethernet(&cursor, &type) && type == bpf_htons(ETH_P_ARP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
