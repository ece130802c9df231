/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A SYN matched by window, time to live, flags and the layout of its options. */
#include <oko.h>

SEC("filter")
int syn_signature(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u8 *option = (void *)(tcp + 1);
	__u16 mss, window;

	if ((void *)(tcp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_TCP || ip->ttl > 64 || ip->ttl <= 32)
		return 0;
	if (!(ip->frag_off & bpf_htons(0x4000)) || !ip->id)
		return 0;
	if (!tcp->syn || tcp->ack || tcp->rst || tcp->fin || tcp->urg_ptr || tcp->ack_seq || !tcp->seq)
		return 0;
	if (tcp->doff != 10 || (void *)(option + 20) > end)
		return 0;
	if (option[0] != 2 || option[1] != 4 || option[4] != 4 || option[6] != 8 || option[16] != 1 || option[17] != 3)
		return 0;
	mss = option[2] << 8 | option[3];
	window = bpf_ntohs(tcp->window);
	return mss && (window % mss == 0 || window == mss * 44 || window == 65535) && option[19] <= 10;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
