/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Two rules: what comes in at one port goes out at the other. */
#include "by_hand.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SWITCH_PORTS);
	__type(key, __u32);
	__type(value, struct counter);
} rules SEC(".maps");

SEC("xdp")
int forward_by_hand(struct xdp_md *ctx)
{
	__u32 port = port_of(ctx);

	count(&rules, port, ctx);
	return bpf_redirect_map(&target, !port, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
