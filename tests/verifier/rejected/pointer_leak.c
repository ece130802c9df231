/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A pointer is stored in a map. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u8 kind;
	__u32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct key);
	__type(value, __u64);
} seen SEC(".maps");

SEC("filter")
int pointer_leak(struct xdp_md *ctx)
{
	struct key key;
	__u64 *found;

	__builtin_memset(&key, 0, sizeof(key));
	found = bpf_map_lookup_elem(&seen, &key);
	if (!found)
		return 0;
#ifdef MENDED
	*found = ctx->rx_queue_index;
#else
	*found = (long)ctx; /* fault: pointer-leak */
#endif
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
