/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The router alert option among the first four options. */
#include <oko.h>

SEC("filter")
int ipv4_router_alert(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(data + 14);
	__u8 *option, *behind;

	if ((void *)(ip + 1) > (void *)end || ((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	option = (__u8 *)(ip + 1);
	behind = (__u8 *)ip + ip->ihl * 4;
	if (behind > end)
		return 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (option + 2 > end || option >= behind)
			return 0;
		if (option[0] == 0)
			return 0;
		if (option[0] == 148)
			return 1;
		if (option[0] == 1) {
			option++;
			continue;
		}
		if (option[1] < 2 || option[1] > 40)
			return 0;
		option += option[1];
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
