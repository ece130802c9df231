/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Parses a packet with every helper of the SDK that fits, and tells how far it came. */
#include <oko.h>

struct progress {
	__u32 headers; /* how many were found */
	__u32 offset;  /* of the cursor, in the frame */
	__u32 left;    /* of the cursor */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} reached SEC(".maps");

static __always_inline int parse_l4(struct oko_cursor *cursor, __u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return oko_parse_tcp(cursor) != NULL;
	if (protocol == IPPROTO_UDP)
		return oko_parse_udp(cursor) != NULL;
	if (protocol == IPPROTO_ICMP)
		return oko_parse_icmp(cursor) != NULL;
	return 0;
}

static __always_inline __u32 parse(struct oko_cursor *cursor)
{
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	__be16 eth_type;

	if (!oko_parse_ethernet(cursor, &eth_type))
		return 0;
	if (eth_type == bpf_htons(ETH_P_IP)) {
		ipv4 = oko_parse_ipv4(cursor);
		return ipv4 ? 2 + parse_l4(cursor, ipv4->protocol) : 1;
	}
	if (eth_type == bpf_htons(ETH_P_IPV6)) {
		ipv6 = oko_parse_ipv6(cursor);
		return ipv6 ? 2 + parse_l4(cursor, ipv6->nexthdr) : 1;
	}
	return 1;
}

SEC("xdp")
int oko_harness(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	void *start = cursor.pos;
	struct progress progress;
	__u32 index = 0;

	progress.headers = parse(&cursor);
	progress.offset = cursor.pos - start;
	progress.left = cursor.left;
	bpf_map_update_elem(&reached, &index, &progress, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
