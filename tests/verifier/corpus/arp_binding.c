/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* ARP replies whose sender is not at the hardware address that a map says. */
#include <oko.h>

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender[6];
	__u8 sender_ip[4];
	__u8 target[6];
	__u8 target_ip[4];
} __attribute__((packed));

struct mac {
	__u8 octets[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, oko_ipv4);
	__type(value, struct mac);
} bindings SEC(".maps");

SEC("filter")
int arp_binding(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct mac *mac;
	struct arp *arp;
	oko_ipv4 sender;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_ARP))
		return OKO_NO_MATCH;
	arp = oko_parse_bytes(&cursor, sizeof(*arp));
	if (!arp || arp->operation != bpf_htons(2))
		return OKO_NO_MATCH;
	__builtin_memcpy(&sender, arp->sender_ip, sizeof(sender));
	mac = bpf_map_lookup_elem(&bindings, &sender);
	if (!mac)
		return OKO_NO_MATCH;
	return __builtin_memcmp(mac->octets, arp->sender, 6) ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
