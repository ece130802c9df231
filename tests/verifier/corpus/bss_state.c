/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Global counters, and an alternation between two states. */
#include <oko.h>

__u64 packets;
__u64 odd_bytes;
static __u32 turn;

SEC("filter")
int bss_state(struct xdp_md *ctx)
{
	__u64 length = ctx->data_end - ctx->data;

	packets++;
	if (length & 1)
		odd_bytes += length;
	turn = (turn + 1) % 3;
	return turn == 0 && packets > 100;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
