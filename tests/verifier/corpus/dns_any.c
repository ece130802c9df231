/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Questions of type ANY: skips up to eight labels. */
#include <oko.h>

struct dns {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 answers;
	__be16 authorities;
	__be16 additional;
};

SEC("filter")
int dns_any(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	struct dns *dns;
	__u8 *label;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(&cursor);
	if (!udp || udp->dest != bpf_htons(53))
		return 0;
	dns = oko_parse_bytes(&cursor, sizeof(*dns));
	if (!dns || dns->questions != bpf_htons(1) || dns->flags & bpf_htons(0x8000))
		return 0;
	label = cursor.pos;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if ((void *)(label + 5) > cursor.end)
			return 0;
		if (label[0] == 0)
			return label[1] == 0 && label[2] == 255;
		if (label[0] > 63)
			return 0;
		label += label[0] + 1;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
