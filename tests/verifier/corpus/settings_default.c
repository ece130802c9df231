/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Settings in a map, defaults where it has none; the pointer is one or the other. */
#include <oko.h>

struct settings {
	__u16 low;
	__u16 high;
	__u32 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

SEC("filter")
int settings_default(struct xdp_md *ctx)
{
	struct settings defaults = {.low = 1024, .high = 65535}, *set, *chosen;
	struct oko_cursor cursor = oko_cursor(ctx);
	__u32 port = oko_in_port(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp)
		return 0;
	set = bpf_map_lookup_elem(&settings, &port);
	chosen = set ? set : &defaults;
	if (chosen->flags & 1)
		return 1;
	return bpf_ntohs(udp->source) >= chosen->low && bpf_ntohs(udp->source) <= chosen->high;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
