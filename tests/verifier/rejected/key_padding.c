/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The padding of a key is never written. */
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
int key_padding(struct xdp_md *ctx)
{
	struct key key;
	__u64 *found;

#ifdef MENDED
	__builtin_memset(&key, 0, sizeof(key));
#endif
	key.kind = 1;
	key.address = ctx->rx_queue_index;
	found = bpf_map_lookup_elem(&seen, &key); /* fault: uninitialised */
	return found != 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
