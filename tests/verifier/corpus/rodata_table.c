/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Weights of protocols in a constant table, indexed by a byte of the packet. */
#include <oko.h>

static const __u8 weights[256] = {
    [IPPROTO_ICMP] = 10, [IPPROTO_TCP] = 1, [IPPROTO_UDP] = 2, [47] = 5, [50] = 6, [IPPROTO_SCTP] = 3,
};

const volatile __u32 limit = 4;

SEC("filter")
int rodata_table(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	return weights[ip->protocol] > limit;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
