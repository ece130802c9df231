/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A constant of the program is written. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 limit = 3;

SEC("filter")
int constant_write(struct xdp_md *ctx)
{
#ifdef MENDED
	return limit > 2;
#else
	*(volatile __u32 *)&limit = ctx->rx_queue_index; /* fault: read-only-data */
	return 1;
#endif
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
