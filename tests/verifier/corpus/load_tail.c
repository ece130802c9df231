/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The last four bytes of a frame and at most 32 of the payload, by xdp_load_bytes. */
#include <oko.h>

SEC("filter")
int load_tail(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data, wanted;
	__u8 payload[32] = {};
	__u32 last = 0;

	if (length < 64)
		return 0;
	if (bpf_xdp_load_bytes(ctx, length - 4, &last, 4))
		return 0;
	wanted = length - 42;
	if (wanted > sizeof(payload))
		wanted = sizeof(payload);
	if (bpf_xdp_load_bytes(ctx, 42, payload, wanted))
		return 0;
	return last == 0 && payload[0] == 'M' && payload[31] == 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
