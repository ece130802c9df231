/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Packets and bytes of each IPv4 source, over a limit. */
#include <oko.h>

struct counters {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, oko_ipv4);
	__type(value, struct counters);
} sources SEC(".maps");

SEC("filter")
int source_counters(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct counters *counters, first = {};
	__u64 length = cursor.left;
	struct iphdr *ip;
	oko_ipv4 source;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	source = ip->saddr;
	counters = bpf_map_lookup_elem(&sources, &source);
	if (!counters) {
		first.packets = 1;
		first.bytes = length;
		bpf_map_update_elem(&sources, &source, &first, BPF_NOEXIST);
		return 0;
	}
	__sync_fetch_and_add(&counters->packets, 1);
	__sync_fetch_and_add(&counters->bytes, length);
	return counters->packets > 1000 || counters->bytes > 1000000;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
