/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
struct legacy {
	int type, key_size, value_size, max_entries, flags;
};

__attribute__((section("maps"))) struct legacy legacy = {2, 4, 4, 1, 0};

__attribute__((section("filter"))) int legacy_maps(void *ctx)
{
	return 1;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
