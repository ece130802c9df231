/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
int no_program(void *ctx)
{
	return 1;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
