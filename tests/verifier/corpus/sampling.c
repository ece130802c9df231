/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* One in a thousand packets, and all of one host. */
#include <oko.h>

const volatile oko_ipv4 watched = 0x0100000a;
const volatile __u32 one_in = 1000;

SEC("filter")
int sampling(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__be16 type;

	if (oko_parse_ethernet(&cursor, &type) && type == bpf_htons(ETH_P_IP)) {
		ip = oko_parse_ipv4(&cursor);
		if (ip && (ip->saddr == watched || ip->daddr == watched))
			return 1;
	}
	return bpf_get_prandom_u32() % one_in == 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
