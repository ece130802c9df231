/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
extern int elsewhere;

__attribute__((section("filter"))) int undefined_variable(void *ctx)
{
	return elsewhere;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
