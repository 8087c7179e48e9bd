/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_BATCH_H
#define IOASID_REGISTRY_BATCH_H

/* The body of a frame, taken apart.  Threads: any, each its own. */

#include "record_arena.h"
#include "registry.h"

#include <stdbool.h>

/* Fields of Batch, by number. */
enum batch_field {
	BATCH_DROP = 1,
	BATCH_LEASE,
	BATCH_MEMORY,
	BATCH_IOASID,
	BATCH_MAPPING,
	BATCH_ATTACHMENT,
	BATCH_DEVICE,
	BATCH_KEY,
	BATCH_INTENT,
	BATCH_TENANT,
	BATCH_HELD,
	BATCH_BROKER,
	BATCH_PROGRESS,
	BATCH_VM,
	BATCH_SLOT,
	_BATCH_FIELD_MAX,
};

struct batch_record {
	enum batch_field field;
	const void *message; /* Ioasid__Registry__... of the field */
};

/* Reused from batch to batch. */
struct batch_records {
	struct batch_record *items;
	size_t n, room;
};

/*
 * Unpacks every record of a body into the arena.  1: it is none, or holds what a batch of this
 * lease cannot; -ENOMEM.  ret_records holds what was read until then.
 */
int batch_unpack(struct record_arena *arena, uint64_t lease, const uint8_t *body, size_t size,
		 struct batch_records *ret_records);
void batch_records_deinit(struct batch_records *records);

/* Records that it puts; drops do not count. */
size_t batch_n_puts(const Ioasid__Registry__Batch *batch);

#endif
