/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* UDP from a low port, with data and data_end and one check for each header. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NEXT(type, name, at)                                                                                           \
	type *name = at;                                                                                               \
	if ((void *)(name + 1) > data_end)                                                                             \
		return 0;

SEC("filter")
int ipv4_macros(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	NEXT(struct ethhdr, eth, data)
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	NEXT(struct iphdr, ip, (void *)(eth + 1))
	if (ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return 0;
	NEXT(struct udphdr, udp, (void *)(ip + 1))
	return bpf_ntohs(udp->source) < 1024;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
