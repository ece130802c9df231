/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The program on every port: jump to the bridge's pipeline. A new pipeline takes effect on all ports at once, when
 * the slot is overwritten. An empty slot drops the packet, so that a switch without its pipeline fails closed, and
 * counts it. */
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

SEC("xdp")
int oko_stub(struct xdp_md *ctx)
{
	__u32 index = 0;
	__u64 *packets;

	/* A constant index lets the kernel's JIT patch in a direct jump. */
	bpf_tail_call_static(ctx, &slot, 0);
	packets = bpf_map_lookup_elem(&fallthrough, &index);
	if (packets)
		++*packets;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
