/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_MAILBOX_H
#define IOASID_TRANSPORT_MAILBOX_H

/*
 * How other threads reach the state thread: they post a mail, the state thread delivers it.
 * A mail is a member of what it announces, so posting never allocates and never fails.
 *
 * Invariant: at most one wake is under way.  A thousand mails posted before the state
 * thread looks cost one wake, and none is lost: the flag is cleared in the same critical
 * section that takes the list.
 *
 * Threads: mailbox_post() from any; mailbox_deliver() from the state thread alone.  The
 * lock is held for a few instructions and never while a callback runs.
 */

#include <pthread.h>
#include <stdbool.h>

struct mail {
	struct mail *next;
	/* On the state thread.  May free the mail and may post more. */
	void (*deliver)(struct mail *mail);
};

struct mailbox {
	pthread_mutex_t lock;
	struct mail *head;
	struct mail **tail;
	bool woken;
	/* Makes the state thread call mailbox_deliver() soon; any thread. */
	void (*wake)(void *userdata);
	void *userdata;
};

int mailbox_init(struct mailbox *mailbox, void (*wake)(void *userdata), void *userdata);
void mailbox_deinit(struct mailbox *mailbox);
void mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* Delivers what is there in order of arrival; not what arrives meanwhile. */
void mailbox_deliver(struct mailbox *mailbox);

#endif
