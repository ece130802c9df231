/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Runs the firewall as a program of its own: its result is the program's, the port comes from a map. */
#include <oko.h>

/* The firewall becomes internal, inlined, and no longer "used" by its section: a call of a function in another
 * section would need the switch's linker. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int firewall(struct xdp_md *ctx);

#include "../../bpf_programs/firewall.c"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ingress SEC(".maps");

__attribute__((noinline)) __u32 oko_in_port(struct xdp_md *ctx)
{
	__u32 index = 0;
	__u32 *port = bpf_map_lookup_elem(&ingress, &index);

	asm volatile("" : : "r"(ctx)); /* else the compiler does not pass it */
	return port ? *port : 0;
}

SEC("xdp")
int firewall_harness(struct xdp_md *ctx)
{
	return firewall(ctx);
}
