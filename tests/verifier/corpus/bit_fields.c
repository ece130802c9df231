/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Flags and a small counter in bit fields of a map's value. */
#include <oko.h>

struct suspect {
	__u32 strikes : 6;
	__u32 blocked : 1;
	__u32 reason : 3;
	__u32 since : 22;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, oko_ipv4);
	__type(value, struct suspect);
} suspects SEC(".maps");

SEC("filter")
int bit_fields(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct suspect *suspect;
	struct iphdr *ip;
	oko_ipv4 source;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	source = ip->saddr;
	suspect = bpf_map_lookup_elem(&suspects, &source);
	if (!suspect)
		return 0;
	if (suspect->blocked)
		return 1;
	if (ip->ttl < 3) {
		suspect->strikes++;
		suspect->reason = 2;
	}
	if (suspect->strikes > 40) {
		suspect->blocked = 1;
		suspect->since = oko_now() >> 30;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
