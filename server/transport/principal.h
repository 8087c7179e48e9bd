/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_PRINCIPAL_H
#define IOASID_TRANSPORT_PRINCIPAL_H

/*
 * Who is at the door, and how often: one entry for each (listening socket, uid) that has
 * anything open.  It keeps one uid from shutting others out before policy knows any of them:
 *
 *   pending      accepted, first bytes not judged yet        per principal
 *   open         connections that speak gRPC                 per principal and per listener
 *   rate         connections a second that reach the state thread, with a burst
 *   memory       what gRPC core may buffer for all connections of one principal
 *   unsent       answers that its clients do not read; above it new calls are refused
 *
 * A principal that misuses HTTP/2 is barred for a time: it may connect, and waits.
 *
 * A count is taken by arrive/promote and given back by leave exactly once.  The per-listener
 * total means that tenants, however many uids they have, cannot use up the admin socket.
 *
 * Threads: the acceptor and the state thread share the table under its lock.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct grpc_resource_quota;
struct principal;
struct principal_table;

struct principal_limits {
	unsigned pending;	/* of one principal */
	unsigned open;		/* of one principal */
	unsigned open_listener; /* of one listener */
	unsigned rate;		/* connections a second of one principal; also the burst */
	size_t memory;		/* bytes of one principal */
	size_t unsent;		/* bytes of answers not taken, above which calls are refused */
};

enum principal_error {
	/* This principal has as many as it may have. */
	PRINCIPAL_E_LIMIT = 1,
	/* The listener has. */
	PRINCIPAL_E_TOTAL,
	/* Too fast; *ret_retry_us says how long to wait. */
	PRINCIPAL_E_RATE,
};

int principal_table_new(const struct principal_limits *limits, struct principal_table **ret_table);
void principal_table_free(struct principal_table *table); /* NULL-safe; empty by then */

/* A new connection that waits for its first bytes.  LIMIT, -ENOMEM. */
int principal_arrive(struct principal_table *table, size_t listener, uid_t uid, uint64_t now_us,
		     struct principal **ret_principal);
/* It ended without becoming open.  The pointer may be dead then. */
void principal_leave_pending(struct principal_table *table, struct principal *principal,
			     uint64_t now_us);
/* Pending becomes open.  On any error it is still pending.  LIMIT, TOTAL, RATE. */
int principal_promote(struct principal_table *table, struct principal *principal, uint64_t now_us,
		      uint64_t *ret_retry_us);
void principal_leave(struct principal_table *table, struct principal *principal, uint64_t now_us);
/*
 * No promotion for a second; for four seconds the next time, and so on up to five minutes: a
 * machine that is slow may take a large message for misuse once.
 */
void principal_bar(struct principal_table *table, struct principal *principal, uint64_t now_us);
/*
 * Bytes of answers that wait to be taken, all connections together; for as long as something
 * of the principal is open.  The state thread's alone.
 */
size_t *principal_unsent(struct principal *principal);
/* Borrowed, for as long as something of the principal is open.  NULL: no memory. */
struct grpc_resource_quota *principal_quota(struct principal_table *table,
					    struct principal *principal);

#endif
