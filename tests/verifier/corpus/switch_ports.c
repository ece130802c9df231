/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A switch over many ports, which becomes a chain or a table of bits. */
#include <oko.h>

SEC("filter")
int switch_ports(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	__u32 limit;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp)
		return 0;
	switch (bpf_ntohs(udp->source)) {
	case 17:
	case 19:
		return 1;
	case 53:
		limit = 1232;
		break;
	case 123:
		limit = 76;
		break;
	case 161:
		limit = 484;
		break;
	case 389:
		limit = 100;
		break;
	case 1900:
	case 5353:
		limit = 600;
		break;
	case 11211:
		limit = 0;
		break;
	default:
		return 0;
	}
	return bpf_ntohs(udp->len) > limit;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
