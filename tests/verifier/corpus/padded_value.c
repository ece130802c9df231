/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A value with padding, cleared by memset before its fields are set. */
#include <oko.h>

struct record {
	__u8 kind;
	__u64 time;
	__u16 size;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

SEC("filter")
int padded_value(struct xdp_md *ctx)
{
	__u32 place = bpf_get_prandom_u32() & 7;
	struct record record;

	__builtin_memset(&record, 0, sizeof(record));
	record.kind = 3;
	record.time = oko_now();
	record.size = ctx->data_end - ctx->data;
	bpf_map_update_elem(&records, &place, &record, BPF_ANY);
	return record.size > 1000;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
