/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A range of VLAN ids, or no tag at all. */
#include <oko.h>

struct tag {
	__be16 tci;
	__be16 type;
};

SEC("filter")
int vlan_one(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	void *next = eth + 1;
	__be16 type;
	__u16 id = 0;

	if (next > end)
		return 0;
	type = eth->h_proto;
	if (type == bpf_htons(ETH_P_8021Q)) {
		struct tag *tag = next;

		next += sizeof(*tag);
		if (next > end)
			return 0;
		id = bpf_ntohs(tag->tci) & 0x0fff;
		type = tag->type;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = next;

		if ((void *)(ip + 1) > end)
			return 0;
		return ip->protocol == IPPROTO_ICMP && (id == 0 || (id >= 100 && id < 200));
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
