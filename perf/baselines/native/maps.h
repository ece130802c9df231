/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Maps of filter programs in a process: arrays, hashes that chain, and tries, which are searched length by length. */
#ifndef NATIVE_MAPS_H
#define NATIVE_MAPS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include <sys/mman.h>

#define TABLES 16
#define NO_ELEMENT 0xffffffffU

struct table {
	const void *map; /* what it is the content of */
	uint32_t type;
	uint32_t size; /* elements at most */
	uint32_t key_size;
	uint32_t value_size;
	uint32_t mask;	 /* buckets, less one */
	uint32_t used;	 /* elements that ever were */
	uint32_t free;	 /* the first that was deleted */
	uint32_t oldest; /* of an LRU hash: the next to make room */
	uint32_t *buckets;
	char *elements;	     /* of an array values, else link, key and value, each aligned */
	uint64_t lengths[3]; /* of prefixes that a trie has, one bit each */
};

static struct table tables[TABLES];

/* Zeros, in huge pages if there are any, as DPDK would have it: a lookup is anywhere in it. */
static inline void *allocate(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("maps");
		exit(1);
	}
	madvise(memory, size, MADV_HUGEPAGE);
	return memory;
}

static inline uint32_t aligned(uint32_t size)
{
	return (size + 7) / 8 * 8;
}

static __always_inline int is_array(const struct table *table)
{
	return table->type == BPF_MAP_TYPE_ARRAY || table->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

/* Where an element's value is in it, in bytes. */
static __always_inline uint32_t value_offset(const struct table *table)
{
	return is_array(table) ? 0 : aligned(sizeof(uint32_t)) + aligned(table->key_size);
}

static inline char *element_at(const struct table *table, uint32_t index)
{
	return table->elements + (size_t)(value_offset(table) + aligned(table->value_size)) * index;
}

static inline char *value_at(const struct table *table, uint32_t index)
{
	return element_at(table, index) + value_offset(table);
}

/* The index of the next element in a bucket, or of the next one that was deleted. */
static inline uint32_t *link_at(const struct table *table, uint32_t index)
{
	return (uint32_t *)element_at(table, index);
}

static inline char *key_at(const struct table *table, uint32_t index)
{
	return element_at(table, index) + aligned(sizeof(uint32_t));
}

static void make_table(struct table *table)
{
	size_t buckets = 1;

	table->elements = allocate(element_at(table, table->size) - element_at(table, 0));
	if (is_array(table))
		return;
	while (buckets < table->size)
		buckets *= 2;
	table->mask = buckets - 1;
	table->free = NO_ELEMENT;
	table->buckets = allocate(sizeof(*table->buckets) * buckets);
	memset(table->buckets, 0xff, sizeof(*table->buckets) * buckets);
}

/* The table of a map, as these say it is. */
static struct table *table_of(const void *map, uint32_t type, uint32_t size, uint32_t key_size, uint32_t value_size)
{
	for (struct table *table = tables; table < tables + TABLES; table++) {
		if (table->map == map)
			return table;
		if (!table->map) {
			*table = (struct table){
			    .map = map, .type = type, .size = size, .key_size = key_size, .value_size = value_size};
			make_table(table);
			return table;
		}
	}
	fprintf(stderr, "more than %d maps\n", TABLES);
	exit(1);
}

/* Tell the compiler what it can make use of: they are constants. */
static __always_inline struct table *known_table(struct table *table, uint32_t type, uint32_t size, uint32_t key_size,
						 uint32_t value_size)
{
	if (table->type != type || table->size != size || table->key_size != key_size ||
	    table->value_size != value_size)
		__builtin_unreachable();
	return table;
}

static __always_inline uint64_t mixed(uint64_t hash, const char *bytes, uint32_t count)
{
	uint64_t word = 0;

	memcpy(&word, bytes, count);
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

static __always_inline uint32_t *bucket_of(const struct table *table, const void *key)
{
	const uint32_t last = table->key_size % sizeof(uint64_t), whole = table->key_size - last;
	const char *bytes = key;
	uint64_t hash = 0;

	for (uint32_t place = 0; place < whole; place += sizeof(uint64_t))
		hash = mixed(hash, bytes + place, sizeof(uint64_t));
	if (last)
		hash = mixed(hash, bytes + whole, last);
	return &table->buckets[hash & table->mask];
}

/* The link that leads to the element with this key, or the last one of its bucket. */
static __always_inline uint32_t *link_to(const struct table *table, const void *key)
{
	uint32_t *link = bucket_of(table, key);

	while (*link != NO_ELEMENT && memcmp(key_at(table, *link), key, table->key_size))
		link = link_at(table, *link);
	return link;
}

static __always_inline void *hash_lookup(const struct table *table, const void *key)
{
	uint32_t index = *link_to(table, key);

	return index == NO_ELEMENT ? NULL : value_at(table, index);
}

/* The longest prefix first; a key begins with its length, in 32 bits. */
static __always_inline void *trie_lookup(const struct table *table, const void *key)
{
	unsigned char prefix[32];
	uint32_t length, most;
	void *found;

	memcpy(prefix, key, table->key_size);
	memcpy(&most, key, sizeof(most));
	for (length = most + 1; length-- > 0;) {
		for (uint32_t bit = length; bit < most; bit++)
			prefix[4 + bit / 8] &= ~(0x80 >> bit % 8);
		most = length;
		if (!(table->lengths[length / 64] >> length % 64 & 1))
			continue;
		memcpy(prefix, &length, sizeof(length));
		found = hash_lookup(table, prefix);
		if (found)
			return found;
	}
	return NULL;
}

static __always_inline void *table_lookup(const struct table *table, const void *key)
{
	uint32_t index;

	if (table->type == BPF_MAP_TYPE_LPM_TRIE)
		return table->used ? trie_lookup(table, key) : NULL;
	if (!is_array(table))
		return hash_lookup(table, key);
	memcpy(&index, key, sizeof(index));
	return index < table->size ? value_at(table, index) : NULL;
}

static inline long table_delete(struct table *table, const void *key)
{
	uint32_t *link = link_to(table, key), index = *link;

	if (index == NO_ELEMENT)
		return -ENOENT;
	*link = *link_at(table, index);
	*link_at(table, index) = table->free;
	table->free = index;
	return 0;
}

/* An element that is free, NO_ELEMENT if there is none. An LRU hash that is full gives its elements away in turn. */
static inline uint32_t new_element(struct table *table)
{
	uint32_t index = table->free;

	if (index == NO_ELEMENT && table->used < table->size)
		return table->used++;
	if (index == NO_ELEMENT && table->type == BPF_MAP_TYPE_LRU_HASH) {
		table_delete(table, key_at(table, table->oldest));
		table->oldest = (table->oldest + 1) % table->size;
		index = table->free;
	}
	if (index != NO_ELEMENT)
		table->free = *link_at(table, index);
	return index;
}

static inline long table_update(struct table *table, const void *key, const void *value, uint64_t flags)
{
	void *element = table_lookup(table, key);
	uint32_t index, length, *bucket;

	if (table->type == BPF_MAP_TYPE_LPM_TRIE)
		element = hash_lookup(table, key);
	if (element && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!element) {
		if (is_array(table))
			return -E2BIG;
		index = new_element(table);
		if (index == NO_ELEMENT)
			return -E2BIG;
		bucket = bucket_of(table, key);
		*link_at(table, index) = *bucket;
		*bucket = index;
		memcpy(key_at(table, index), key, table->key_size);
		element = value_at(table, index);
		if (table->type == BPF_MAP_TYPE_LPM_TRIE) {
			memcpy(&length, key, sizeof(length));
			table->lengths[length / 64] |= 1ULL << length % 64;
		}
	}
	memcpy(element, value, table->value_size);
	return 0;
}

/* What set_entry() answers for this table. */
static inline int table_set(struct table *table, const void *key, const void *value, size_t size)
{
	if (size != table->value_size)
		return -EINVAL;
	if (!is_array(table))
		return table_update(table, key, value, BPF_ANY);
	memcpy(table_lookup(table, key), value, size);
	return 0;
}

/* The same for a variable. */
static inline int variable_set(void *variable, size_t variable_size, const void *value, size_t size)
{
	if (size != variable_size)
		return -EINVAL;
	memcpy(variable, value, size);
	return 0;
}

#endif
