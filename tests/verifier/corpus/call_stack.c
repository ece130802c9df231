/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Static functions that fill and read a structure on the caller's stack. */
#include <oko.h>

struct tuple {
	__u32 source;
	__u32 destination;
	__u16 source_port;
	__u16 destination_port;
	__u32 protocol;
};

static __noinline int fill(struct xdp_md *ctx, struct tuple *tuple)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *ports;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return -1;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return -1;
	tuple->source = bpf_ntohl(ip->saddr);
	tuple->destination = bpf_ntohl(ip->daddr);
	tuple->protocol = ip->protocol;
	ports = oko_parse_udp(&cursor);
	if (!ports)
		return -2;
	tuple->source_port = bpf_ntohs(ports->source);
	tuple->destination_port = bpf_ntohs(ports->dest);
	return 0;
}

static __noinline __u32 mix(const struct tuple *tuple)
{
	__u32 hash = tuple->source ^ tuple->destination;

	hash = hash * 0x9e3779b1 ^ ((__u32)tuple->source_port << 16 | tuple->destination_port);
	return hash * 0x85ebca77 + tuple->protocol;
}

SEC("filter")
int call_stack(struct xdp_md *ctx)
{
	struct tuple tuple = {};

	if (fill(ctx, &tuple) < 0)
		return OKO_NO_MATCH;
	return mix(&tuple) % 10 < 3;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
