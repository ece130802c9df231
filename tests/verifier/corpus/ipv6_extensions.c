/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The upper protocol behind at most four extension headers. */
#include <oko.h>

struct extension {
	__u8 next;
	__u8 length;
};

SEC("filter")
int ipv6_extensions(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip = (void *)(eth + 1);
	void *at = ip + 1;
	struct udphdr *udp;
	__u8 next;

	if (at > end || eth->h_proto != bpf_htons(ETH_P_IPV6))
		return 0;
	next = ip->nexthdr;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		struct extension *header = at;

		if (next != 0 && next != 43 && next != 44 && next != 60)
			break;
		if ((void *)(header + 1) > end)
			return 0;
		at += next == 44 ? 8 : (header->length + 1) * 8;
		next = header->next;
	}
	if (next != IPPROTO_UDP)
		return 0;
	udp = at;
	if ((void *)(udp + 1) > end)
		return 0;
	return udp->dest == bpf_htons(5353);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
