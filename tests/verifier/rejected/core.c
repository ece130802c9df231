/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
struct anything {
	int member;
} __attribute__((preserve_access_index));

__attribute__((section("filter"))) int core(struct anything *ctx)
{
	return ctx->member;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
