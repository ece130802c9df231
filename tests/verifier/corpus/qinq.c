/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Up to two tags in an unrolled loop, then the outer and the inner id in a set. */
#include <oko.h>

struct ids {
	__u16 outer;
	__u16 inner;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ids);
	__type(value, __u8);
} customers SEC(".maps");

SEC("filter")
int qinq(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct oko_vlan *tag = (void *)(eth + 1);
	struct ids ids = {};
	__be16 type;

	if ((void *)(eth + 1) > end)
		return 0;
	type = eth->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return 0;
		if (i == 0)
			ids.outer = bpf_ntohs(tag->tci) & 0xfff;
		else
			ids.inner = bpf_ntohs(tag->tci) & 0xfff;
		type = tag->eth_type;
		tag++;
	}
	return bpf_map_lookup_elem(&customers, &ids) != NULL;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
