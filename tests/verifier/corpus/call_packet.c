/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A static function that takes the packet's place and its end. */
#include <oko.h>

static __noinline int is_query(void *at, void *end)
{
	__be16 *words = at;

	if (at + 12 > end)
		return 0;
	return !(words[1] & bpf_htons(0x8000)) && words[2] == bpf_htons(1);
}

static __noinline int after_udp(struct iphdr *ip, void *end)
{
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end)
		return 0;
	if (udp->dest == bpf_htons(53) || udp->dest == bpf_htons(5353))
		return is_query(udp + 1, end);
	return 0;
}

SEC("filter")
int call_packet(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return 0;
	if (ip->protocol == IPPROTO_UDP)
		return after_udp(ip, end);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
