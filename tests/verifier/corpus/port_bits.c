/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A bitmap of all ports as one array element, with an index that fits by its type. */
#include <oko.h>

struct bitmap {
	__u64 words[1024];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bitmap);
} bitmap SEC(".maps");

SEC("filter")
int port_bits(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct bitmap *map;
	__u32 zero = 0;
	__u16 port;

	if ((void *)(tcp + 1) > end)
		return 0;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return 0;
	map = bpf_map_lookup_elem(&bitmap, &zero);
	if (!map)
		return 0;
	port = bpf_ntohs(tcp->dest);
	return map->words[port >> 6] >> (port & 63) & 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
