/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* At most 64 bytes of payload, copied and sent with the length that is there. */
#include <oko.h>

#define MAXIMUM 64

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} samples SEC(".maps");

struct buffer {
	__u8 bytes[MAXIMUM];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct buffer);
} scratch SEC(".maps");

SEC("filter")
int clamped_output(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data, zero = 0;
	struct buffer *buffer = bpf_map_lookup_elem(&scratch, &zero);

	if (!buffer || length < 14)
		return 0;
	if (length > MAXIMUM)
		length = MAXIMUM;
	if (bpf_xdp_load_bytes(ctx, 0, buffer->bytes, length))
		return 0;
	bpf_ringbuf_output(&samples, buffer->bytes, length, 0);
	return buffer->bytes[12] == 0x08;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
