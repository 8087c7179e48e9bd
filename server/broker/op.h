/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_OP_H
#define IOASID_BROKER_OP_H

#include "server/broker/broker.h"

#include <sys/queue.h>

struct lease;

/*
 * One piece of work on the shim.  run() makes shim calls and touches nothing of the
 * broker's but what the op owns; complete() is on the state thread.  Inside one lease at
 * most one op is in flight, so that what run() reads of the lease's objects stands still.
 */
struct op {
	struct broker_work work; /* first: the host hands this back */
	struct broker *broker;
	void (*run)(struct op *op);
	void (*complete)(struct op *op);
	STAILQ_ENTRY(op) later;
};
STAILQ_HEAD(op_queue, op);

/*
 * Runs op->run(), here if it is light and the shim does not block, else on a worker; then
 * op->complete().
 * key: whom workers are shared fairly between (the tenant).
 */
void op_start(struct op *op, struct broker *broker, const void *key, bool heavy);
/* Calls op->complete() again from the next tick: for long completions in slices. */
void op_later(struct op *op, struct broker *broker);

/* Pages of 4 KiB that a shim call may touch on the state thread: some tens of us. */
#define OP_LIGHT_PAGES 4096
/* Objects that one slice of a completion handles. */
#define OP_SLICE 512

#endif
