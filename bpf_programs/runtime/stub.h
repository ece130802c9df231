/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The program on every port: jump to the bridge's pipeline. A new pipeline takes effect on all ports at once, when
 * the slot is overwritten. A packet that finds the slot empty is counted, and then what the stub says happens. */
#ifndef OKO_STUB_H
#define OKO_STUB_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} slot SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} fallthrough SEC(".maps");

static __always_inline int run_pipeline(struct xdp_md *ctx, const int otherwise)
{
	__u32 index = 0;
	__u64 *packets;

	/* A constant index lets the kernel's JIT patch in a direct jump. */
	bpf_tail_call_static(ctx, &slot, 0);
	packets = bpf_map_lookup_elem(&fallthrough, &index);
	if (packets)
		++*packets;
	return otherwise;
}

#endif
