/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A connection of IPv6 as key, by memcpy, in either direction. */
#include <oko.h>

struct connection {
	struct in6_addr one;
	struct in6_addr other;
	__be16 one_port;
	__be16 other_port;
	__u8 padding[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct connection);
	__type(value, __u8);
} connections SEC(".maps");

SEC("filter")
int copy_keys(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct connection connection;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u8 one = 1;

	if ((void *)(tcp + 1) > end)
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IPV6) || ip->nexthdr != IPPROTO_TCP)
		return 0;
	__builtin_memset(&connection, 0, sizeof(connection));
	if (tcp->syn && !tcp->ack) {
		__builtin_memcpy(&connection.one, &ip->saddr, sizeof(ip->saddr));
		__builtin_memcpy(&connection.other, &ip->daddr, sizeof(ip->daddr));
		connection.one_port = tcp->source;
		connection.other_port = tcp->dest;
		bpf_map_update_elem(&connections, &connection, &one, BPF_ANY);
		return 1;
	}
	__builtin_memcpy(&connection.one, &ip->daddr, sizeof(ip->daddr));
	__builtin_memcpy(&connection.other, &ip->saddr, sizeof(ip->saddr));
	connection.one_port = tcp->dest;
	connection.other_port = tcp->source;
	return bpf_map_lookup_elem(&connections, &connection) != NULL;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
