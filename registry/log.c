/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a frame comes into a log.  Owns the order of the stores, and nothing of where the room
 * for it comes from (registry.c).
 *
 * A frame is published by the store of its length, which is the last one: before it, a reader
 * finds a zero there and takes it for the end, whatever is behind.  What a process had stored
 * when it was killed is in the pages of the file, and stores before the killing instruction are
 * all there; so a kill at any instruction leaves the whole frame or none.  The release order is
 * for readers in other processes.
 *
 * Invariant: the word after the last frame is zero before that frame is published.  The file
 * is zero beyond used; log_begin() sees to it.
 */

#include "log.h"

#include <string.h>

size_t log_span(size_t body_size)
{
	return log_frame_span(sizeof(struct log_frame) + body_size);
}

void log_begin(struct log_file *file, uint64_t generation, const struct registry_boot_id *boot,
	       uint64_t salt)
{
	struct log_header header = {
		.schema = REGISTRY_SCHEMA, .salt = salt, .generation = generation, .boot = *boot};

	log_file_clean(file, SIZE_MAX);
	memcpy(header.magic, LOG_MAGIC, sizeof(header.magic));
	header.crc = log_header_crc(&header);
	memcpy(file->bytes, &header, sizeof(header));
	file->used = LOG_HEADER_SIZE;
	file->dirty_start = file->dirty = 0;
	file->salt = salt;
	file->batches = 0;
}

const uint8_t *log_append(struct log_file *file, uint64_t lease, const uint8_t *body,
			  size_t body_size, const Ioasid__Registry__Batch *batch)
{
	struct log_frame *frame = (struct log_frame *)(file->bytes + file->used);
	uint32_t length = (uint32_t)(sizeof(*frame) + body_size);
	uint8_t *to = (uint8_t *)(frame + 1);

	if (body)
		memcpy(to, body, body_size);
	else
		ioasid__registry__batch__pack(batch, to);
	frame->body_crc = crc32c(0, to, body_size);
	frame->lease = lease;
	frame->reserved = 0;
	frame->crc = log_frame_crc(file->salt, file->used, length, frame->body_crc, lease, 0);
	__atomic_store_n(&frame->length, length, __ATOMIC_RELEASE);
	file->used += log_frame_span(length);
	file->batches++;
	return to;
}

void log_mark_stale(struct log_file *file, uint64_t lease)
{
	struct log_stale *entries = (struct log_stale *)(file->bytes + LOG_STALE_OFFSET);
	size_t i = 1;

	/* The first entry is kept for the word that stands for all. */
	while (i < LOG_STALE_MAX && entries[i].set && entries[i].lease != lease)
		i++;
	if (i == LOG_STALE_MAX) {
		i = 0;
		lease = LOG_STALE_ALL;
	}
	if (entries[i].set)
		return;
	entries[i].lease = lease;
	entries[i].crc = log_stale_crc(file->salt, lease);
	__atomic_store_n(&entries[i].set, 1, __ATOMIC_RELEASE);
}
