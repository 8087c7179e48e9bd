/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_MODEL_BROKER_H
#define TESTS_MODEL_BROKER_H

/*
 * A broker that dies and comes back on the same socket, with what it remembers or without:
 * leases, keys, tickets and resume tokens by the rules of ioasid.proto, as little of the rest
 * as the tests of restarts need.  One in a process; all functions are thread-safe.
 *
 * Every effect has a number of its own, so that a test can tell one effect from two.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_moment {
	/* Before the request has an effect ... */
	MODEL_BEFORE,
	/* ... and after it, before the answer. */
	MODEL_AFTER,
};

struct model_options {
	/* Leases, keys and numbers of events survive; else generation 0. */
	bool registry;
	/* Resume gives nothing back, as after the grace time. */
	bool no_grace;
	/* Refuses so many requests with RECONCILING after a start. */
	unsigned reconciling;
	/* The old number of events is refused, as by a broker that counts anew. */
	bool counts_anew;
};

void model_start(const struct model_options *options);
/* Asserts that nothing is left under way. */
void model_stop(void);
const char *model_path(void);
/* As the operator does: kill -9, and a new one after so long. */
void model_kill(void);
void model_revive(void);
/*
 * At the nth (from 1) request of the method ("Alloc", or "give") it dies by itself, and a new
 * one starts pause_ms later.
 */
void model_die_at(const char *method, unsigned nth, enum model_moment moment, unsigned pause_ms);
/* The request is answered only so much later; 0: at once. */
void model_delay(unsigned ms);
/* Another event is there for watchers. */
void model_event(void);
/* Until the restart that model_die_at() announced is over. */
void model_wait_revived(void);

/* Requests of a method that came, in all lives. */
unsigned model_calls(const char *method);
/* Effects of a method that there were, in all lives. */
unsigned model_effects(const char *method);
/* Leases that there are; connections that ever were. */
unsigned model_leases(void);
unsigned model_connections(void);
/* Is there an object of that id in the lease of that name, "" a connection's? */
bool model_has(const char *lease, uint64_t id);

#endif
