/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of chunks, each twice as large as the one before up to CHUNK_LARGEST: a small registry
 * costs little, and one of a million objects takes some dozens of allocations.  It clears
 * nothing and gives nothing back before the end.
 */

#include "record_arena.h"

#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_FIRST   ((size_t)16 << 10)
#define CHUNK_LARGEST ((size_t)8 << 20)
/* Records hold pointers and 64-bit numbers, nothing wider. */
#define ALIGN alignof(uint64_t)

struct record_arena_chunk {
	struct record_arena_chunk *next;
	alignas(max_align_t) char data[];
};

void *record_arena_alloc(struct record_arena *arena, size_t size)
{
	struct record_arena_chunk *chunk;
	size_t room;
	void *p;

	if (size > SIZE_MAX / 4)
		return NULL;
	size = size ? (size + ALIGN - 1) & ~(ALIGN - 1) : ALIGN;
	if (arena->limit && (arena->used > arena->limit || size > arena->limit - arena->used))
		return NULL;
	if (size > arena->left) {
		if (!arena->chunk_size)
			arena->chunk_size = CHUNK_FIRST;
		room = size > arena->chunk_size ? size : arena->chunk_size;
		chunk = malloc(sizeof(*chunk) + room);
		if (!chunk) {
			arena->out_of_memory = true;
			return NULL;
		}
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		/* What is left of a chunk stays the place for small things if that is more. */
		if (room - size < arena->left) {
			arena->used += size;
			return chunk->data;
		}
		arena->next = chunk->data;
		arena->left = room;
		if (arena->chunk_size < CHUNK_LARGEST)
			arena->chunk_size *= 2;
	}
	p = arena->next;
	arena->next += size;
	arena->left -= size;
	arena->used += size;
	return p;
}

void *record_arena_alloc_array(struct record_arena *arena, size_t n, size_t size)
{
	size_t total;

	return __builtin_mul_overflow(n, size, &total) ? NULL : record_arena_alloc(arena, total);
}

static void *allocator_alloc(void *data, size_t size)
{
	return record_arena_alloc(data, size);
}

static void allocator_free(void *data, void *p)
{
}

ProtobufCAllocator record_arena_allocator(struct record_arena *arena)
{
	return (ProtobufCAllocator){allocator_alloc, allocator_free, arena};
}

int record_arena_grow(struct record_arena *arena, void **items, size_t n, size_t *room, size_t size)
{
	size_t more = *room ? *room * 2 : 4;
	void *p;

	if (n < *room)
		return 0;
	p = record_arena_alloc_array(arena, more, size);
	if (!p)
		return -ENOMEM;
	if (n)
		memcpy(p, *items, n * size);
	*items = p;
	*room = more;
	return 0;
}

void record_arena_deinit(struct record_arena *arena)
{
	struct record_arena_chunk *chunk = arena->chunks;

	while (chunk) {
		struct record_arena_chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
	*arena = (struct record_arena){0};
}
