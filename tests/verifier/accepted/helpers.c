/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Helpers and memory of every kind, for the comparison of the interpreter with the kernel. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct locked {
	struct bpf_spin_lock lock;
	__u32 count;
};

struct prefix {
	__u32 length;
	__u8 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct locked);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

SEC("filter")
int helpers(struct xdp_md *ctx)
{
	struct prefix wide = {8, {10, 0, 0, 0}}, narrow = {24, {10, 1, 2, 0}}, wanted = {32, {10, 1, 2, 3}};
	__u32 key = 1, value = 100, words[4] = {}, result, *route;
	struct locked *locked = bpf_map_lookup_elem(&counters, &key);
	__u64 stamp = 5, *found;

	if (!locked || bpf_xdp_load_bytes(ctx, 2, words, sizeof(words)))
		return 0;
	bpf_spin_lock(&locked->lock);
	locked->count += 3;
	bpf_spin_unlock(&locked->lock);
	result = bpf_csum_diff(0, 0, words, sizeof(words), 17) & 0xffff;
	result += bpf_csum_diff(words, 8, words + 2, 8, 0xfffffff0) & 0xffff;
	bpf_map_update_elem(&routes, &wide, &value, BPF_ANY);
	value = 200;
	bpf_map_update_elem(&routes, &narrow, &value, BPF_ANY);
	route = bpf_map_lookup_elem(&routes, &wanted);
	if (route)
		result ^= *route << 16;
	result += 0x1000 * bpf_map_update_elem(&recent, &key, &stamp, BPF_EXIST);
	result += 0x2000 * bpf_map_update_elem(&recent, &key, &stamp, BPF_ANY);
	result += 0x4000 * bpf_map_update_elem(&recent, &key, &stamp, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&recent, &key);
	if (found)
		result += __sync_val_compare_and_swap(found, 5, 9) + *found;
	result += 0x8000 * bpf_map_delete_elem(&recent, &key);
	result += 0x10000 * bpf_map_delete_elem(&recent, &key);
	return result + locked->count;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
