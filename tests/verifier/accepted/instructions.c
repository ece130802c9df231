/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Many kinds of instructions, for the disassembler; newer instruction sets (-mcpu=v4) change what it becomes. */
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__attribute__((section("filter"))) s64 instructions(u64 *wide, u64 a, s64 b)
{
	u32 *narrow = (u32 *)wide;
	u32 word = a * 3;
	u64 r = a + 0x123456789abcdefULL;

#ifndef NO_ATOMICS
	__sync_fetch_and_add(wide, a);
	r += __sync_lock_test_and_set(wide + 1, a);
	r += __sync_val_compare_and_swap(wide + 2, a, r);
#endif
	r += __builtin_bswap16(a) + __builtin_bswap32(b) + __builtin_bswap64(r);
	r ^= a / 9;
	r %= 7 + (a & 15);
	r += (s8)a + (s16)b + (s32)r;
	word -= a;
	word = (word >> 3) | (word << b);
	if (word > 77)
		r -= word;
	if ((s64)r < b)
		r = -r;
	if (r & 8)
		return (s64)r >> 4;
	*(u16 *)wide = 3;
	wide[9] = r;
	narrow[9] = (s32)word >> 2;
	r += *(s8 *)wide + *(s16 *)narrow;
	return r ^ *(u16 *)(wide - 4);
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
