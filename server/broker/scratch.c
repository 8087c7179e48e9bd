/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scratch of one request.  Owns its chunks; never gives back a single allocation.
 *
 * protobuf-c allocates once for each sub-message and string; four megabytes of empty
 * sub-messages would be two million allocations.  Bumping a pointer makes them cheap, the
 * cap makes them finite.  One thread at a time.
 */
#include "server/broker/scratch.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE (64u << 10)

struct scratch_chunk {
	struct scratch_chunk *next;
	char data[] __attribute__((aligned(16)));
};

static void *allocator_alloc(void *data, size_t size)
{
	return scratch_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
}

void scratch_init(struct scratch *scratch, size_t cap)
{
	scratch->allocator = (ProtobufCAllocator){
		.alloc = allocator_alloc,
		.free = allocator_free,
		.allocator_data = scratch,
	};
	scratch->chunks = NULL;
	scratch->at = scratch->first;
	scratch->end = scratch->first + sizeof(scratch->first);
	scratch->used = 0;
	scratch->cap = cap;
	scratch->over_cap = false;
}

void scratch_deinit(struct scratch *scratch)
{
	while (scratch->chunks) {
		struct scratch_chunk *chunk = scratch->chunks;

		scratch->chunks = chunk->next;
		free(chunk);
	}
}

void scratch_extend(struct scratch *scratch, size_t more)
{
	scratch->cap += more;
	scratch->over_cap = false;
}

void *scratch_alloc(struct scratch *scratch, size_t size)
{
	struct scratch_chunk *chunk;
	size_t room;
	void *p;

	if (size > scratch->cap)
		goto over;
	size = size ? (size + 15) & ~(size_t)15 : 16;
	if (size > scratch->cap - scratch->used)
		goto over;
	if (size > (size_t)(scratch->end - scratch->at)) {
		room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
		chunk = malloc(sizeof(*chunk) + room);
		if (!chunk)
			return NULL;
		chunk->next = scratch->chunks;
		scratch->chunks = chunk;
		scratch->at = chunk->data;
		scratch->end = chunk->data + room;
	}
	p = scratch->at;
	scratch->at += size;
	scratch->used += size;
	return p;
over:
	scratch->over_cap = true;
	return NULL;
}

void *scratch_calloc(struct scratch *scratch, size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	p = scratch_alloc(scratch, bytes);
	if (p)
		memset(p, 0, bytes);
	return p;
}

char *scratch_strdup(struct scratch *scratch, const char *text)
{
	size_t n = strlen(text) + 1;
	char *p = scratch_alloc(scratch, n);

	if (p)
		memcpy(p, text, n);
	return p;
}

char *scratch_vprintf(struct scratch *scratch, const char *format, va_list ap)
{
	va_list again;
	char *p;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	p = n < 0 ? NULL : scratch_alloc(scratch, (size_t)n + 1);
	if (p)
		vsnprintf(p, (size_t)n + 1, format, ap);
	return p;
}

char *scratch_printf(struct scratch *scratch, const char *format, ...)
{
	va_list ap;
	char *p;

	va_start(ap, format);
	p = scratch_vprintf(scratch, format, ap);
	va_end(ap);
	return p;
}
