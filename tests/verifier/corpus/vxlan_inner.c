/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The network identifier and the inner frame's destination. */
#include <oko.h>

struct vxlan {
	__be32 flags;
	__be32 vni;
};

SEC("filter")
int vxlan_inner(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct vxlan *vxlan;
	struct ethhdr *eth;
	struct udphdr *udp;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp || udp->dest != bpf_htons(4789))
		return 0;
	vxlan = oko_parse_bytes(&cursor, sizeof(*vxlan));
	if (!vxlan || bpf_ntohl(vxlan->vni) >> 8 != 5001)
		return 0;
	eth = oko_parse_ethernet(&cursor, &type);
	if (!eth || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	return ip && ip->protocol == IPPROTO_TCP && !(eth->h_dest[0] & 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
