/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_SINK_H
#define IOASID_TRANSPORT_SINK_H

/*
 * Where lines go that nobody may wait for: audit records and the operator's log.  A bounded
 * ring and a thread that writes it out.  A full disk, a blocked pipe or a stopped terminal
 * costs lines, never time: what finds no room is counted, and the next line that finds room
 * carries the count.
 *
 * The writer gathers for GATHER_MS before it writes, so that a busy server pays one wake-up
 * for many lines, and sleeps without a time-out while there is nothing to write.
 *
 * Threads: sink_put() and sink_reopen() from any; the lock is held for one copy.
 */

#include <stddef.h>
#include <stdint.h>

enum sink_form {
	/* Text; control characters become '?'.  Losses: "(N lines lost)" before the line. */
	SINK_TEXT,
	/* JSON objects; losses: {"lost":N, at the start of the next record. */
	SINK_JSON,
};

struct sink;

/*
 * target: "stderr", "none", or the path of a file to append to (made with mode 0640, never
 * through a symbolic link).  capacity: bytes of the ring.  -errno of open(2).
 */
int sink_new(const char *target, enum sink_form form, size_t capacity, struct sink **ret_sink);
/* Writes what is left for at most a second.  NULL-safe. */
void sink_free(struct sink *sink);
/* One line without its newline.  NULL-safe. */
void sink_put(struct sink *sink, const char *line, size_t length);
/* Opens a file target anew (it was renamed by log rotation).  NULL-safe. */
void sink_reopen(struct sink *sink);
/* Lines lost since the start. */
uint64_t sink_lost(struct sink *sink);

#endif
