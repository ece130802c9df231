/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The inner IPv4 source of GRE, whose header has optional parts. */
#include <oko.h>

struct gre {
	__be16 flags;
	__be16 protocol;
};

SEC("filter")
int gre_inner(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *outer, *inner;
	struct gre *gre;
	__u32 optional = 0;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	outer = oko_parse_ipv4(&cursor);
	if (!outer || outer->protocol != 47)
		return 0;
	gre = oko_parse_bytes(&cursor, sizeof(*gre));
	if (!gre || gre->protocol != bpf_htons(ETH_P_IP))
		return 0;
	if (gre->flags & bpf_htons(0x8000))
		optional += 4;
	if (gre->flags & bpf_htons(0x2000))
		optional += 4;
	if (gre->flags & bpf_htons(0x1000))
		optional += 4;
	if (!oko_parse_bytes(&cursor, optional))
		return 0;
	inner = oko_parse_ipv4(&cursor);
	if (!inner)
		return 0;
	return (inner->saddr & bpf_htonl(0xff000000)) == bpf_htonl(0x0a000000);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
