/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_HOLD_H
#define LIBIOASID_HOLD_H

/*
 * What a client would miss after a restart of the broker: its connection leases (one for
 * each tenant that it acts for) and its named leases with their secrets.
 *
 *	MAYBE  a call that makes the connection lease was sent and never succeeded yet
 *	SURE   it exists: a call in it has succeeded, or the broker has named it
 *	LOST   it was SURE, and a restart has taken it away; until the program knows
 *
 * A MAYBE that does not come back is no loss: nobody was told of anything in it.
 *
 * Everything here is under the client's lock.
 */

#include "ioasid.h"

enum hold_state {
	HOLD_MAYBE,
	HOLD_SURE,
	HOLD_LOST,
};

struct hold {
	struct hold *next;
	enum hold_state state;
	/* As the program says it: "" is its own. */
	char *tenant;
	/* "": a connection lease. */
	char *name;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	/* The connection on which this life of the lease began. */
	uint64_t since;
	/* While a connection is being made: it has been given back; it has been asked for. */
	bool back;
	bool asked;
};

struct holds {
	struct hold *first;
	/* Path of the tenant that "" stands for; "" until the broker has told. */
	char *own_tenant;
};

void holds_deinit(struct holds *holds);
/* false: no memory. */
bool holds_set_own_tenant(struct holds *holds, const char *tenant);
/* NULL: none. */
struct hold *hold_find(const struct holds *holds, const char *tenant, const char *name);
/* Found, or new and MAYBE since that connection.  NULL: no memory. */
struct hold *hold_get(struct holds *holds, const char *tenant, const char *name, uint64_t since);
void hold_drop(struct holds *holds, struct hold *hold);
/* Of those that are lost; how many. */
unsigned holds_forget_lost(struct holds *holds);
/* Is there anything that a restart could take away? */
bool holds_any(const struct holds *holds);
/* A new connection is going to be made: nothing is back and nothing asked for. */
void holds_start(struct holds *holds);
/* The next named lease that is neither back nor asked for; NULL: none. */
struct hold *holds_next_to_ask(const struct holds *holds);
/* The new connection is there: what is not back is lost. */
void holds_finish(struct holds *holds, uint64_t epoch);

#endif
