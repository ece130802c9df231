/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Settings with initial values in .data, and a table among them. */
#include <oko.h>

struct rule {
	__u16 port;
	__u16 maximum;
};

struct rule rules[4] = {
    {53, 512},
    {123, 90},
    {161, 484},
    {1900, 400},
};
__u32 enabled = 1;

SEC("filter")
int data_settings(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	__be16 type;

	if (!enabled || !oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp)
		return 0;
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (bpf_ntohs(udp->source) == rules[i].port && bpf_ntohs(udp->len) > rules[i].maximum)
			return 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
