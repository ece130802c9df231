/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
#define FOUR(x) x x x x
#define MANY(x) FOUR(FOUR(FOUR(FOUR(FOUR(x)))))

__attribute__((section("filter"))) int too_long(volatile int *ctx)
{
	MANY(*ctx; *ctx; *ctx; *ctx;)
	return 1;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
