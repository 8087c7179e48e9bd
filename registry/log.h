/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_LOG_H
#define IOASID_REGISTRY_LOG_H

/* Writing frames into a log file.  Threads: one. */

#include "log_file.h"
#include "log_format.h"

#include <stdbool.h>

/*
 * The file becomes an empty log with this header; its old content goes.  It is at least
 * LOG_HEADER_SIZE large.
 */
void log_begin(struct log_file *file, uint64_t generation, const struct registry_boot_id *boot,
	       uint64_t salt);
/* A frame of this body would be the next.  Its span. */
size_t log_span(size_t body_size);
/* There is room for the frame.  body: NULL if batch is to be packed. */
const uint8_t *log_append(struct log_file *file, uint64_t lease, const uint8_t *body,
			  size_t body_size, const Ioasid__Registry__Batch *batch);
/* A change of this lease is not in the log. */
void log_mark_stale(struct log_file *file, uint64_t lease);

#endif
