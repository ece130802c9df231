/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Ports behind a header of any length, with an early return. */
#include <oko.h>

SEC("filter")
int ipv4_ihl(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *ports;
	__u32 length;

	if ((void *)(ip + 1) > end)
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	length = ip->ihl << 2;
	if (length < sizeof(*ip))
		return 0;
	ports = (void *)ip + length;
	if ((void *)(ports + 1) > end)
		return 0;
	if (ip->protocol == IPPROTO_TCP)
		return ports->dest == bpf_htons(22);
	if (ip->protocol == IPPROTO_UDP)
		return ports->dest == bpf_htons(53) && bpf_ntohs(ports->len) > 64;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
