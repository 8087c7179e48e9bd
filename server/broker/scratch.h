/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_SCRATCH_H
#define IOASID_BROKER_SCRATCH_H

#include <protobuf-c/protobuf-c.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A capped bump allocator: everything that a request's decoding and its answer need, freed
 * at once.  Over the cap, or out of memory, allocation returns NULL.
 */
struct scratch_chunk;
struct scratch {
	ProtobufCAllocator allocator; /* for *_unpack(); free is a no-op */
	struct scratch_chunk *chunks;
	char *at;
	char *end;
	size_t used;
	size_t cap;
	bool over_cap; /* an allocation was refused for the cap's sake */
	char first[2048] __attribute__((aligned(16)));
};

void scratch_init(struct scratch *scratch, size_t cap);
void scratch_deinit(struct scratch *scratch);
/* Raises the cap by as much; for answers, whose size the broker bounds itself. */
void scratch_extend(struct scratch *scratch, size_t more);
/* Aligned to 16 bytes; not cleared. */
void *scratch_alloc(struct scratch *scratch, size_t size);
/* Cleared; NULL also if n * size overflows. */
void *scratch_calloc(struct scratch *scratch, size_t n, size_t size);
char *scratch_strdup(struct scratch *scratch, const char *text);
char *scratch_printf(struct scratch *scratch, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
char *scratch_vprintf(struct scratch *scratch, const char *format, va_list ap);

#endif
