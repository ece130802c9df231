/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
int variable;
int *volatile pointer = &variable;

__attribute__((section("filter"))) int address_in_data(void *ctx)
{
	return *pointer;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
