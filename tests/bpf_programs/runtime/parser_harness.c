/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Runs the parser as a global function of a program of its own, on the struct oko_packet in a map. */
#include <oko.h>

#include "../../../bpf_programs/runtime/packet.h"

/* A call of a function in another section would need the switch's linker, so that the parser goes to .text. */
#undef SEC
#define SEC(name)
#define LICENSE parser_license
__noinline int oko_parse(struct xdp_md *ctx, struct oko_packet *packet);

#include "../../../bpf_programs/runtime/parser.c"

#undef LICENSE
#undef SEC
#define SEC(name) __attribute__((section(name), used))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oko_packet);
} parsed SEC(".maps");

SEC("xdp")
int parser_harness(struct xdp_md *ctx)
{
	__u32 index = 0;
	struct oko_packet *packet = bpf_map_lookup_elem(&parsed, &index);

	if (!packet || oko_parse(ctx, packet))
		return XDP_ABORTED;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
