/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What each port of the switch lets in, as bits of ethertypes. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u32);
} policies SEC(".maps");

SEC("filter")
int port_policy(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u32 port = oko_in_port(ctx), *policy, bit;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type))
		return 0;
	bit = type == bpf_htons(ETH_P_IP)     ? 0
	      : type == bpf_htons(ETH_P_IPV6) ? 1
	      : type == bpf_htons(ETH_P_ARP)  ? 2
					      : 31;
	policy = bpf_map_lookup_elem(&policies, &port);
	return policy && (*policy & 1u << bit);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
