/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A blocklist of hashed names: at most 32 bytes of the name, byte by byte. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} names SEC(".maps");

SEC("filter")
int dns_hash(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *name = data + 14 + 20 + 8 + 12;
	__u32 hash = 2166136261;
	__u64 *hits;

	if (name + 32 > end)
		return 0;
	if (data[12] != 8 || data[13] != 0 || data[14] != 0x45 || data[23] != IPPROTO_UDP || data[37] != 53)
		return 0;
#pragma unroll
	for (int i = 0; i < 32; i++) {
		if (!name[i])
			break;
		hash = (hash ^ (name[i] | 0x20)) * 16777619;
	}
	hits = bpf_map_lookup_elem(&names, &hash);
	if (!hits)
		return 0;
	__sync_fetch_and_add(hits, 1);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
