/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The same, by csum_diff over the packet itself with a length that varies. */
#include <oko.h>

SEC("filter")
int checksum_packet(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + 14;
	__u32 length;
	__s64 sum;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return 0;
	length = ip->ihl * 4;
	if ((void *)ip + length > end)
		return 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)ip, length, 0);
	if (sum < 0)
		return 0;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum != 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
