/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
extern int oko_no_such_function(void *ctx);

__attribute__((section("filter"))) int undefined(void *ctx)
{
	return oko_no_such_function(ctx);
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
