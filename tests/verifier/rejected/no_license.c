/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
__attribute__((section("filter"))) int no_license(void *ctx)
{
	return 1;
}
