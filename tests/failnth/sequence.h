/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_FAILNTH_SEQUENCE_H
#define IOASID_TESTS_FAILNTH_SEQUENCE_H

#include "host.h"

#include <stddef.h>

/* What is made to fail, and which occurrence of it. */
enum fault_kind { FAULT_NONE, FAULT_ALLOCATION, FAULT_SHIM, FAULT_ROOM, _FAULT_KIND_MAX };

struct fault {
	enum fault_kind kind;
	uint64_t nth;	/* from 1; 0: only count */
	uint64_t calls; /* how many the step made */
	bool hit;
};

/* One pass through the sequence: a broker of its own and what the steps have got so far. */
struct run {
	struct host host;
	struct registry *registry;
	char folder[64]; /* its */
	struct shim *soft;
	struct shim *shim; /* soft, wrapped */
	struct broker *broker;
	struct broker_session *admin, *red, *red2, *blue;
	int memfd;
	uint8_t ticket[16];
	uint8_t secret[32];
	uint64_t memory;
	uint64_t parent;
	uint64_t child;
	uint64_t user;
	uint64_t pooled;
	uint64_t vm;
	uint64_t guest; /* an IOASID of it */
	uint64_t spare[4];
	char policy_path[64];
	char problem[512]; /* why the run itself could not be set up */
	/* Not NULL: the step that is being run is the one to be hurt. */
	struct fault *fault;
};

/* A step with no answer: the end of a connection, or time going by.  It cannot be refused. */
#define STEP_VOID (-2)

struct step {
	const char *name;
	/* One request.  Returns its status code, 0 OK; or STEP_VOID. */
	int (*act)(struct run *run);
	/* What it must come to when nothing fails. */
	int expected;
	/* The connection's first request: it makes the connection lease, refused or not. */
	bool makes_lease;
};

extern const struct step sequence[];
extern const size_t sequence_length;

/* Everything but the broker.  0, or -1 with run->problem. */
int run_begin(struct run *run);
/* The orderly end: closes, drains, frees.  0, or -1 with run->problem. */
int run_end(struct run *run);

/*
 * What the admin sees of every tenant's counters and of every object, into a buffer: equal
 * bytes, equal state.  Peaks and counts of refusals are left out; but_leases: also leases
 * that hold nothing, as a connection's first request makes one.  0: there is no admin yet.
 */
size_t run_snapshot(struct run *run, bool but_leases, uint8_t *ret, size_t size);
/* Do counters, objects and registry agree?  NULL: yes, or there is no admin yet. */
const char *run_check(struct run *run);
/* First counter that is not zero, but for the admin's own connection; NULL: all are. */
const char *run_counters(struct run *run);

#endif
