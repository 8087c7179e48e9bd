/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_LOG_FORMAT_H
#define IOASID_REGISTRY_LOG_FORMAT_H

/*
 * The bytes of a log, in the order of the machine: it never leaves it.
 *
 *	0	magic "ioasidrg", u32 schema: stay here whatever a later schema changes
 *	12	the rest of struct log_header; its crc is over the first LOG_STALE_OFFSET bytes
 *	256	struct log_stale entries up to the end of the page, each with a crc of its own
 *	4096	frames, each at a multiple of 8: struct log_frame, body (a packed Batch), padding
 *
 * After the last frame everything is zero, or what a killed process had written of a frame that
 * it did not publish: there the word `length` is still zero, for it is stored last.
 *
 * The crc of a frame's header also covers the salt of this log and where the frame is.  So
 * bytes that a tenant had the broker store, frames of an older log, and a frame that was copied
 * are no frames, wherever a reader looks for one.
 */

#include "crc32c.h"
#include "registry.h"

#include <stddef.h>
#include <stdint.h>

#define LOG_MAGIC	 "ioasidrg"
#define LOG_HEADER_SIZE	 ((size_t)4096)
#define LOG_STALE_OFFSET ((size_t)256)

struct log_header {
	char magic[8];
	uint32_t schema;
	uint32_t crc; /* of the first LOG_STALE_OFFSET bytes, with this word zero */
	uint64_t salt;
	uint64_t generation;
	struct registry_boot_id boot;
	uint8_t zero[LOG_STALE_OFFSET - 48];
};
_Static_assert(sizeof(struct log_header) == LOG_STALE_OFFSET, "log_header");

/*
 * A lease of which the log lacks a change, for want of space (registry.c).  `set` is stored last;
 * in an entry that is not in use it is zero.
 */
struct log_stale {
	uint64_t lease; /* LOG_STALE_ALL: no entry was left */
	uint32_t crc;	/* of lease and the salt */
	uint32_t set;
};
#define LOG_STALE_MAX ((LOG_HEADER_SIZE - LOG_STALE_OFFSET) / sizeof(struct log_stale))
#define LOG_STALE_ALL UINT64_MAX

struct log_frame {
	uint32_t length; /* of header and body, without padding; stored last; 0: the end */
	uint32_t body_crc;
	uint64_t lease;
	uint32_t reserved; /* 0 */
	uint32_t crc;	   /* of the fields above, the salt and the offset */
};
_Static_assert(sizeof(struct log_frame) == 24, "log_frame");

static inline uint32_t log_header_crc(const struct log_header *header)
{
	struct log_header copy = *header;

	copy.crc = 0;
	return crc32c(0, &copy, sizeof(copy));
}

static inline uint32_t log_stale_crc(uint64_t salt, uint64_t lease)
{
	const uint64_t words[2] = {salt, lease};

	return crc32c(0, words, sizeof(words));
}

static inline uint32_t log_frame_crc(uint64_t salt, uint64_t offset, uint32_t length,
				     uint32_t body_crc, uint64_t lease, uint32_t reserved)
{
	const uint64_t words[5] = {salt, offset, length | (uint64_t)body_crc << 32, lease,
				   reserved};

	return crc32c(0, words, sizeof(words));
}

/* Bytes that a frame of this length takes. */
static inline size_t log_frame_span(size_t length)
{
	return (length + 7) & ~(size_t)7;
}

#endif
