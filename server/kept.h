/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SERVER_KEPT_H
#define IOASID_SERVER_KEPT_H

/*
 * What outlives ioasidd: the registry, and the keeper that holds fds.  Opened before anything
 * else, in the order of these functions; each complains on stderr where it fails.  Main thread.
 */

#include "server/transport/options.h"
#include "server/transport/sink.h"

#include <stdbool.h>

struct broker;
struct keeper;
struct registry;
struct registry_image;

/* All zero: nothing is kept. */
struct kept {
	struct registry *registry;    /* NULL: none is kept */
	struct registry_image *image; /* NULL: there was nothing in it */
	struct keeper *keeper;	      /* NULL: nobody keeps fds */
	const char *folder;	      /* of the registry */
	const char *aside;	      /* what the old log is kept as; NULL: it is not */
};

/* Reads the registry, if one is to be kept.  Nothing is written. */
int kept_open(struct kept *kept, const struct options *options);
/* required: without the keeper nothing works. */
int kept_connect_keeper(struct kept *kept, const struct options *options, bool required,
			struct sink *log);
/* What was kept becomes the broker's again; from here on changes are written. */
int kept_restore(struct kept *kept, const struct options *options, struct broker *broker,
		 struct sink *log);
/* The broker is gone. */
void kept_deinit(struct kept *kept);

#endif
