/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of returned objects: the header with the root behind it is one allocation, more
 * comes from blocks that double in size up to 64 KiB; what does not fit into such a block
 * gets one of its own.  There is no way to free a part.
 */
#include "result.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT      _Alignof(max_align_t)
#define BLOCK_SIZE_MIN 1024
#define BLOCK_SIZE_MAX (64 * 1024)

struct block {
	struct block *next;
	_Alignas(max_align_t) unsigned char data[];
};

struct result {
	struct block *blocks;
	/* Of the first block. */
	size_t size;
	size_t used;
	bool failed;
	ProtobufCAllocator allocator;
	_Alignas(max_align_t) unsigned char root[];
};

static void *carve(struct result *result, size_t size)
{
	struct block *block;
	size_t want;

	if (size > SIZE_MAX - ALIGNMENT - sizeof(*block))
		return NULL;
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (result->blocks && result->size - result->used >= size) {
		void *p = result->blocks->data + result->used;

		result->used += size;
		return p;
	}

	want = result->size ? result->size * 2 : BLOCK_SIZE_MIN;
	if (want > BLOCK_SIZE_MAX)
		want = BLOCK_SIZE_MAX;
	if (size > want / 2) {
		/* Behind the block that is being filled, which stays first. */
		block = malloc(sizeof(*block) + size);
		if (!block)
			return NULL;
		if (result->blocks) {
			block->next = result->blocks->next;
			result->blocks->next = block;
		} else {
			block->next = NULL;
			result->blocks = block;
			result->size = result->used = size;
		}
		return block->data;
	}

	block = malloc(sizeof(*block) + want);
	if (!block)
		return NULL;
	block->next = result->blocks;
	result->blocks = block;
	result->size = want;
	result->used = size;
	return block->data;
}

static void *allocator_alloc(void *data, size_t size)
{
	struct result *result = data;
	void *p = carve(result, size ?: 1);

	if (!p)
		result->failed = true;
	return p;
}

static void allocator_free(void *data, void *pointer)
{
}

struct result *result_new(size_t root_size)
{
	struct result *result;

	if (root_size > SIZE_MAX - sizeof(*result))
		return NULL;
	result = calloc(1, sizeof(*result) + root_size);
	if (!result)
		return NULL;
	result->allocator = (ProtobufCAllocator){
		.alloc = allocator_alloc,
		.free = allocator_free,
		.allocator_data = result,
	};
	return result;
}

void result_free(struct result *result)
{
	if (!result)
		return;
	while (result->blocks) {
		struct block *next = result->blocks->next;

		free(result->blocks);
		result->blocks = next;
	}
	free(result);
}

void *result_root(struct result *result)
{
	return result->root;
}

void result_free_root(const void *root)
{
	if (root)
		result_free((struct result *)((uintptr_t)root - offsetof(struct result, root)));
}

void *result_alloc(struct result *result, size_t n, size_t size)
{
	size_t total;
	void *p;

	if (!n)
		return NULL;
	if (__builtin_mul_overflow(n, size, &total)) {
		result->failed = true;
		return NULL;
	}
	p = allocator_alloc(result, total);
	return p ? memset(p, 0, total) : NULL;
}

void *result_table(struct result *result, size_t n, size_t size)
{
	unsigned char *items = result_alloc(result, n, size);
	void **table = items ? result_alloc(result, n, sizeof(*table)) : NULL;

	if (table)
		for (size_t i = 0; i < n; i++)
			table[i] = items + i * size;
	return table;
}

char *result_strdup(struct result *result, const char *text)
{
	size_t length = strlen(text);
	char *copy = result_alloc(result, length + 1, 1);

	return copy ? memcpy(copy, text, length) : NULL;
}

bool result_failed(const struct result *result)
{
	return result->failed;
}

ProtobufCAllocator *result_allocator(struct result *result)
{
	return &result->allocator;
}
