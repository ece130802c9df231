/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The timestamp option at its usual place behind two padding options. */
#include <oko.h>

struct timestamp {
	__u8 padding[2];
	__u8 kind;
	__u8 length;
	__be32 value;
	__be32 echo;
};

SEC("filter")
int tcp_timestamp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct timestamp *stamp = (void *)(tcp + 1);

	if ((void *)(stamp + 1) > end)
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_TCP || tcp->doff < 8)
		return 0;
	if (stamp->padding[0] != 1 || stamp->padding[1] != 1 || stamp->kind != 8 || stamp->length != 10)
		return 0;
	return stamp->echo == 0 && !tcp->syn;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
