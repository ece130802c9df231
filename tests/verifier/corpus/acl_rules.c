/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A list of eight rules in .rodata: the first that fits decides. */
#include <oko.h>

struct acl {
	__be32 source;
	__be32 mask;
	__u16 low;
	__u16 high;
	__u8 protocol;
	__u8 verdict;
};

const volatile struct acl rules[8] = {
    {.protocol = IPPROTO_ICMP, .verdict = 1},
};

SEC("filter")
int acl_rules(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *ports;
	struct iphdr *ip;
	__u16 port = 0;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	if (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) {
		ports = oko_parse_udp(&cursor);
		if (!ports)
			return 0;
		port = bpf_ntohs(ports->dest);
	}
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if ((ip->saddr & rules[i].mask) != rules[i].source)
			continue;
		if (rules[i].protocol && rules[i].protocol != ip->protocol)
			continue;
		if (port < rules[i].low || (rules[i].high && port > rules[i].high))
			continue;
		return rules[i].verdict;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
