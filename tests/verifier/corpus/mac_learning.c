/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Hardware addresses that change their port. */
#include <oko.h>

struct address {
	__u8 octets[6];
	__u16 vlan;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct address);
	__type(value, __u32);
} stations SEC(".maps");

SEC("filter")
int mac_learning(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct address address = {};
	struct oko_vlan *vlan;
	struct ethhdr *eth;
	__u32 port, *known;
	__be16 type;

	eth = oko_parse_bytes(&cursor, sizeof(*eth));
	if (!eth)
		return 0;
	type = eth->h_proto;
	vlan = oko_parse_vlan(&cursor, &type);
	if (vlan)
		address.vlan = bpf_ntohs(vlan->tci) & 0xfff;
	__builtin_memcpy(address.octets, eth->h_source, sizeof(address.octets));
	port = oko_in_port(ctx);
	known = bpf_map_lookup_elem(&stations, &address);
	if (known && *known == port)
		return 0;
	bpf_map_update_elem(&stations, &address, &port, BPF_ANY);
	return known ? 1 : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
