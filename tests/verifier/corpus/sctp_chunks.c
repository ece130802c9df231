/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* An ABORT among the first four chunks, each of which is padded to words. */
#include <oko.h>

SEC("filter")
int sctp_chunks(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__u8 *chunk;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_SCTP || !oko_parse_bytes(&cursor, 12))
		return 0;
	chunk = cursor.pos;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 length;

		if ((void *)(chunk + 4) > cursor.end)
			return 0;
		if (chunk[0] == 6)
			return 1;
		length = bpf_ntohs(*(__be16 *)(chunk + 2));
		if (length < 4 || length > 1500)
			return 0;
		chunk += (length + 3) & ~3u;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
