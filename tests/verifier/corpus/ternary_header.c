/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Either header's address field through one pointer. */
#include <oko.h>

SEC("filter")
int ternary_header(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip4 = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	__be16 *ports;
	__u8 protocol;
	int old;

	if ((void *)(ip6 + 1) + 4 > end)
		return 0;
	old = eth->h_proto == bpf_htons(ETH_P_IP);
	if (!old && eth->h_proto != bpf_htons(ETH_P_IPV6))
		return 0;
	protocol = old ? ip4->protocol : ip6->nexthdr;
	ports = old ? (__be16 *)(ip4 + 1) : (__be16 *)(ip6 + 1);
	return protocol == IPPROTO_TCP && ports[1] == bpf_htons(25);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
