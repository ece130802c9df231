/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A place in a packet, and the contract of all functions that parse a header. */
#ifndef OKO_CURSOR_H
#define OKO_CURSOR_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* A place in a packet. `pos` is the first byte not yet parsed, `end` the end of the frame (what the kernel's
 * verifier compares with), `left` the bytes from `pos` that belong to what is being parsed: at first the rest of
 * the frame, after an IPv4 header only what its total length covers, so never Ethernet padding.
 *
 * The contract of every oko_parse_X(cursor, …): if the header is there, whole and by the rules given at the
 * function, return a pointer to it and move the cursor to the first byte after it; else return NULL and leave the
 * cursor where it was. The fields of a header that is returned may be read without further checks. */
struct oko_cursor {
	void *pos;
	void *end;
	__u64 left;
};

/* The frame's first byte. The context says it in 32 bits that both verifiers know to be a pointer, if they are loaded
 * into a whole register. Compilers that find two loads of them keep one, in half a register, and copy that half to
 * where the other was: then it is no pointer any more, and nothing that is computed with it can be read or be a bound.
 * So every use loads it for itself, here, as a whole. */
static __always_inline void *oko_data(struct xdp_md *ctx)
{
	void *data = (void *)(long)*(volatile __u32 *)&ctx->data;

	barrier_var(data);
	return data;
}

/* The first byte behind the frame, in the same way. */
static __always_inline void *oko_data_end(struct xdp_md *ctx)
{
	void *end = (void *)(long)*(volatile __u32 *)&ctx->data_end;

	barrier_var(end);
	return end;
}

static __always_inline struct oko_cursor oko_cursor(struct xdp_md *ctx)
{
	void *pos = oko_data(ctx), *end = oko_data_end(ctx);

	return (struct oko_cursor){.pos = pos, .end = end, .left = end - pos};
}

/* Any header of a fixed `size` in bytes, at most 64 KiB in sum over a packet. */
static __always_inline void *oko_parse_bytes(struct oko_cursor *cursor, __u64 size)
{
	void *header = cursor->pos;

	if (cursor->left < size || header + size > cursor->end)
		return NULL;
	__builtin_assume(header != NULL); /* else the caller's test for NULL survives as a second comparison */
	cursor->pos = header + size;
	cursor->left -= size;
	return header;
}

/* Bytes from the start of the frame to the cursor. */
static __always_inline __u32 oko_offset(struct xdp_md *ctx, const struct oko_cursor *cursor)
{
	__u64 offset = cursor->pos - oko_data(ctx);

	barrier_var(offset); /* else compilers subtract halves of the pointers, which are no pointers to a verifier */
	return offset;
}

/* What is `offset` bytes into the frame, unchecked: compare with data_end before reading. The kernel's verifier takes
 * no offset near 64 KiB for good; XDP's first buffer, a page, ends long before. */
static __always_inline void *oko_position(struct xdp_md *ctx, __u32 offset)
{
	return oko_data(ctx) + (offset & 0x7fff);
}

/* The `size` bytes (a constant) that begin `offset` bytes into the frame, NULL if it ends before. For what was found
 * earlier: only the frame's end is looked at, not the packet's in it. */
static __always_inline void *oko_bytes_at(struct xdp_md *ctx, __u32 offset, __u64 size)
{
	void *bytes = oko_position(ctx, offset);

	if (bytes + size > oko_data_end(ctx))
		return NULL;
	__builtin_assume(bytes != NULL);
	return bytes;
}

#endif
