/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* p0f in a process. */
#include "../../../bpf_programs/p0f.c"

#include "process.h"

int filter(struct xdp_md *ctx, __u32 in_port)
{
	(void)in_port;
	return p0f(ctx);
}

int set_entry(const char *name, const void *key, const void *value, size_t size)
{
	if (!strcmp(name, "layouts"))
		return table_set(TABLE(&layouts), key, value, size);
	if (!strcmp(name, "signatures"))
		return table_set(TABLE(&signatures), key, value, size);
	if (!strcmp(name, "counts"))
		return table_set(TABLE(&counts), key, value, size);
	if (!strcmp(name, "names"))
		return table_set(TABLE(&names), key, value, size);
	return strcmp(name, ".data.config") ? -ENOENT : variable_set(&config, sizeof(config), value, size);
}
