/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Runs the parser as a program of its own: the key that it makes of the packet goes to a map. */
#include <oko.h>

#include "../../../bpf_programs/runtime/key.h"

/* The parser becomes internal, inlined, and no longer "used" by its section: a call of a function in another
 * section would need the switch's linker. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int oko_parse(struct xdp_md *ctx, struct oko_key *key);

#include "../../../bpf_programs/runtime/parser.c"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oko_key);
} parsed SEC(".maps");

SEC("xdp")
int parser_harness(struct xdp_md *ctx)
{
	struct oko_key key __attribute__((aligned(8)));
	__u32 index = 0;

	if (oko_parse(ctx, &key))
		return XDP_ABORTED;
	bpf_map_update_elem(&parsed, &index, &key, BPF_ANY);
	return XDP_PASS;
}
