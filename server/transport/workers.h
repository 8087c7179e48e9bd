/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_WORKERS_H
#define IOASID_TRANSPORT_WORKERS_H

/*
 * The bounded pool for what may block (a large pin, a reset, a big DMA).  It runs
 * struct broker_work and posts each back to the state thread.
 *
 * Fairness: work is queued by its fairness_key in one of a fixed number of lanes; lanes are
 * served round robin, and one lane never holds more than max(1, workers / 2) workers, so a
 * tenant with a thousand blocking calls leaves workers to the others.  Two keys may share a
 * lane (keys are addresses that no tenant chooses); they are then as one to each other.
 * Within a lane the order is that of submission.
 *
 * workers_submit() never fails and never allocates: the work carries its own link.
 *
 * Threads: submit on the state thread; run() on a worker; done() through the mailbox, on
 * the state thread.
 */

#include "mailbox.h"
#include "server/broker/broker.h"

#define WORKERS_MAX 256

struct workers;

/* n: 1 to WORKERS_MAX threads.  The mailbox outlives the pool. */
int workers_new(unsigned n, struct mailbox *mailbox, struct workers **ret_workers);
/* Ends the threads after what is queued has run; done() of it is still posted.  NULL-safe. */
void workers_free(struct workers *workers);
void workers_submit(struct workers *workers, struct broker_work *work);
/* Submitted and not yet done(). State thread. */
size_t workers_pending(const struct workers *workers);

#endif
