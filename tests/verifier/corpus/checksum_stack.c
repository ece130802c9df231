/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A wrong IPv4 header checksum, by csum_diff over a copy. */
#include <oko.h>

SEC("filter")
int checksum_stack(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + 14, copy;
	__u64 sum;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5)
		return 0;
	copy = *ip;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&copy, sizeof(copy), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum != 0xffff;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
