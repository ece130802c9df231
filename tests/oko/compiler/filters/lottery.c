/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Matches when the number drawn is odd, and keeps all that it drew: two of these programs show who drew first. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} drawn SEC(".maps");

__u32 draws;

SEC("filter")
int lottery(struct xdp_md *ctx)
{
	__u32 number = bpf_get_prandom_u32(), index = draws++;

	(void)ctx;
	bpf_map_update_elem(&drawn, &index, &number, BPF_ANY);
	return number & 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
