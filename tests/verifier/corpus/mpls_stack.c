/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The bottom of a stack of at most six labels. */
#include <oko.h>

SEC("filter")
int mpls_stack(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__be32 *label = (void *)(eth + 1);
	__u32 found = 0;

	if ((void *)(eth + 1) > end || eth->h_proto != bpf_htons(ETH_P_MPLS_UC))
		return 0;
#pragma unroll
	for (int i = 0; i < 6; i++) {
		__u32 entry;

		if ((void *)(label + 1) > end)
			return 0;
		entry = bpf_ntohl(*label++);
		if (entry >> 8 & 1) {
			found = entry >> 12;
			break;
		}
	}
	return found >= 16 && found < 1000;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
