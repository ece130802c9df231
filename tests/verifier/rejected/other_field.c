/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A field of the context that filter programs may not read. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("filter")
int other_field(struct xdp_md *ctx)
{
#ifdef MENDED
	return ctx->rx_queue_index;
#else
	return ctx->egress_ifindex; /* fault: context-access */
#endif
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
