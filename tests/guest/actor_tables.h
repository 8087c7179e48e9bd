/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an actor does with tables that a tenant writes (actor.h): IOASIDs of kind USER, their
 * bindings, invalidations and faults, all by libioasid.  Called by the actor's own loop, in its
 * process; keeps one watch of faults and one thread that rewrites an entry.
 */
#ifndef TESTS_GUEST_ACTOR_TABLES_H
#define TESTS_GUEST_ACTOR_TABLES_H

#include "actor.h"

#include <ioasid.h>

/* Who does it; bytes: its memory. */
struct tables_actor {
	struct ioasid_client *client;
	const struct ioasid_scope *scope;
	uint8_t *bytes;
};

/* An order from ACT_WORD on; x: its a to e. */
int64_t actor_tables(const struct tables_actor *self, enum actor_op op, const char *text,
		     const uint64_t x[5]);

#endif
