/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
static volatile char large[2 << 20];

__attribute__((section("filter"))) int much_data(void *ctx)
{
	return large[1000];
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
