/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter that says yes to frames with an odd number: tests/e2e/wire.py puts it behind the Ethernet header. */
#include <oko.h>

SEC("filter")
int odd(struct xdp_md *ctx)
{
	__u8 *data = (__u8 *)(long)ctx->data, *end = (__u8 *)(long)ctx->data_end;

	if (data + 18 > end)
		return OKO_NO_MATCH;
	return data[17] & 1 ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
