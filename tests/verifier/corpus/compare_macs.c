/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Hardware addresses by memcmp with constants and with each other. */
#include <oko.h>

static const __u8 gateway[ETH_ALEN] = {0x02, 0, 0, 0, 0, 0xfe};

SEC("filter")
int compare_macs(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct ethhdr *eth;
	__be16 type;

	eth = oko_parse_ethernet(&cursor, &type);
	if (!eth)
		return 0;
	if (!__builtin_memcmp(eth->h_source, eth->h_dest, ETH_ALEN))
		return 1;
	return !__builtin_memcmp(eth->h_source, gateway, ETH_ALEN) && type != bpf_htons(ETH_P_IP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
