/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A global function that takes the context, called twice. */
#include <oko.h>

__noinline int byte_at(struct xdp_md *ctx, __u32 offset)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *byte;

	if (offset > 1500)
		return -1;
	byte = data + offset;
	if ((void *)(byte + 1) > end)
		return -1;
	return *byte;
}

SEC("filter")
int call_global(struct xdp_md *ctx)
{
	int protocol = byte_at(ctx, 23);
	int ttl;

	if (protocol != IPPROTO_UDP)
		return 0;
	ttl = byte_at(ctx, 22);
	return ttl >= 0 && ttl < 10;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
