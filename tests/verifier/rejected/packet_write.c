/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The packet is changed. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("filter")
int packet_write(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 copy[1];

	if (data + 1 > end)
		return 0;
	copy[0] = data[0];
#ifdef MENDED
	return copy[0] & 1;
#else
	data[0] = copy[0] | 1; /* fault: packet-write */
	return 1;
#endif
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
