/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Data in sections that the compiler or the author names: .rodata.cst16, .rodata.str1.1, .data.tuning. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct tuning {
	__u32 low;
	__u32 high;
};

SEC(".data.tuning") struct tuning tuning = {10, 20};
static const __u8 table[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static volatile __u32 unused_before[3];
static volatile __u32 counter;

SEC("filter")
int sections(struct xdp_md *ctx)
{
	unused_before[1] = 1;
	counter += tuning.high;
	return table[ctx->rx_queue_index & 15] + counter;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
