/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
__attribute__((section("filter"))) int known(void *ctx)
{
	return 1;
}

__attribute__((section("xdp"))) int unknown_section(void *ctx)
{
	return 2;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
