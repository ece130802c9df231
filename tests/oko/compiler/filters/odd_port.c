/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Matches packets from ports with an odd number; remembers the last port. */
#include <oko.h>

__u32 last_port;
__u32 bits = 1; /* in .data */

SEC("filter")
int odd_port(struct xdp_md *ctx)
{
	last_port = oko_in_port(ctx);
	return last_port & bits;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
