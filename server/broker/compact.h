/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_COMPACT_H
#define IOASID_BROKER_COMPACT_H

#include "server/broker/state.h"

/*
 * The first log of this run, at once: everything that there is.  aside: as registry_begin().
 * From here on changes are written.  -errno.
 */
int compact_first(struct broker *broker, struct registry *registry,
		  const struct registry_boot_id *boot, const char *aside);
/* Begins a new log if the old one has grown too much; it is written in slices. */
void compact_if_wanted(struct broker *broker);
/* A lease is about to be freed. */
void compact_skip(struct broker *broker, const struct lease *lease);
/* Gives up what is under way. */
void compact_stop(struct broker *broker);

int compact_cursor_new(struct compact_cursor **ret_cursor); /* -ENOMEM */
void compact_cursor_free(struct compact_cursor *cursor);    /* NULL-safe */

#endif
