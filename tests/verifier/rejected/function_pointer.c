/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
static __attribute__((noinline)) int callee(int x)
{
	return x + 1;
}

__attribute__((section("filter"))) long function_pointer(void *ctx)
{
	int (*volatile called)(int) = callee;

	return (long)called;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
