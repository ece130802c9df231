/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* In place of libbpf's header of this name: what filter programs call, for a process with one thread. A map is declared
 * as ever; its declaration is read by the compiler, its elements are in `struct table` of maps.h. */
#ifndef NATIVE_BPF_HELPERS_H
#define NATIVE_BPF_HELPERS_H

#include <stddef.h>
#include <stdint.h>
#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name)
#undef __always_inline /* of the C library, which says the same */
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define barrier_var(variable) asm volatile("" : "+r"(variable))

#include "../maps.h"
#include "../process.h"

#define TYPE_OF(map) (sizeof(*(map)->type) / sizeof(int))
#define SIZE_OF(map) (sizeof(*(map)->max_entries) / sizeof(int))
#define SHAPE_OF(map) TYPE_OF(map), SIZE_OF(map), sizeof(*(map)->key), sizeof(*(map)->value)
/* It is looked for once for each place in the program. */
#define TABLE(map)                                                                                                     \
	({                                                                                                             \
		static struct table *found;                                                                            \
		if (!found)                                                                                            \
			found = table_of((map), SHAPE_OF(map));                                                        \
		known_table(found, SHAPE_OF(map));                                                                     \
	})
#define bpf_map_lookup_elem(map, key) table_lookup(TABLE(map), (key))
#define bpf_map_update_elem(map, key, value, flags) table_update(TABLE(map), (key), (value), (flags))
#define bpf_map_delete_elem(map, key) table_delete(TABLE(map), (key))

static inline void bpf_spin_lock(struct bpf_spin_lock *lock)
{
	(void)lock;
}

static inline void bpf_spin_unlock(struct bpf_spin_lock *lock)
{
	(void)lock;
}

/* Nobody listens: as if there were no room. */
static inline long bpf_ringbuf_output(void *ring, void *record, __u64 size, __u64 flags)
{
	(void)ring;
	(void)record;
	(void)size;
	(void)flags;
	return -1;
}

static inline __u64 bpf_ktime_get_ns(void)
{
	return batch_time;
}

#endif
