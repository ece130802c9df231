/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Destination ports in an array with one element for each. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} ports SEC(".maps");

SEC("filter")
int port_array(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	__u8 *blocked;
	__be16 type;
	__u32 port;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP))
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp)
		return 0;
	port = bpf_ntohs(udp->dest);
	blocked = bpf_map_lookup_elem(&ports, &port);
	return blocked && *blocked;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
