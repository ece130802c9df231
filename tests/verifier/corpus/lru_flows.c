/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Five-tuples in an LRU map with the time of the last packet. */
#include <oko.h>

struct flow {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
};

struct seen {
	__u64 first;
	__u64 last;
	__u32 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct flow);
	__type(value, struct seen);
} flows SEC(".maps");

SEC("filter")
int lru_flows(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *ports;
	struct seen *seen;
	struct flow flow;
	struct iphdr *ip;
	__be16 type;
	__u64 now;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP))
		return 0;
	ports = oko_parse_udp(&cursor);
	if (!ports)
		return 0;
	__builtin_memset(&flow, 0, sizeof(flow));
	flow.source = ip->saddr;
	flow.destination = ip->daddr;
	flow.source_port = ports->source;
	flow.destination_port = ports->dest;
	flow.protocol = ip->protocol;
	now = oko_now();
	seen = bpf_map_lookup_elem(&flows, &flow);
	if (seen) {
		__u64 idle = now - seen->last;

		seen->last = now;
		seen->packets++;
		return idle > 60ULL * 1000 * 1000 * 1000;
	} else {
		struct seen fresh = {.first = now, .last = now, .packets = 1};

		bpf_map_update_elem(&flows, &flow, &fresh, BPF_ANY);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
