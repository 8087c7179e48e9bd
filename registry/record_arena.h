/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_RECORD_ARENA_H
#define IOASID_REGISTRY_RECORD_ARENA_H

/*
 * Memory of an image: records and arrays that go all at once.  Nothing in it is freed by itself.
 * All zero is an empty one.
 *
 * Threads: one at a time.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct record_arena_chunk;

struct record_arena {
	struct record_arena_chunk *chunks;
	char *next;
	size_t left;
	size_t chunk_size;  /* of the next chunk */
	size_t used;	    /* by what was asked for */
	size_t limit;	    /* used does not exceed it; 0: none */
	bool out_of_memory; /* an allocation failed, not for the limit */
};

/* Not cleared.  NULL: no memory, or the limit. */
void *record_arena_alloc(struct record_arena *arena, size_t size);
void *record_arena_alloc_array(struct record_arena *arena, size_t n, size_t size);
/* For protobuf_c_message_unpack(): what it makes stays in the arena. */
ProtobufCAllocator record_arena_allocator(struct record_arena *arena);
void record_arena_deinit(struct record_arena *arena);

/*
 * An array in an arena that grows at its end: *items has *n of *room of this size; makes room for
 * one more.  -ENOMEM.
 */
int record_arena_grow(struct record_arena *arena, void **items, size_t n, size_t *room,
		      size_t size);

#endif
