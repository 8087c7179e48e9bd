/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_MEND_THREAD_H
#define LIBIOASID_MEND_THREAD_H

/* The thread of mend.h, and the steps by which it makes a connection.  Not for calls. */

#include "mend.h"

/* What is remembered of GetStatus. */
struct mend_status {
	struct link_token token;
	uint64_t generation;
	char *tenant;
};
void mend_status_deinit(struct mend_status *status);

/* ---- under the client's lock ---- */

/* Makes the thread unless there is one.  -errno. */
int mend_start(struct ioasid_client *client);
/* The thread looks again at what there is to do. */
void mend_kick(struct mend *mend);
/* The client has no connection any more; its reference is the caller's. */
struct link *mend_drop_link(struct ioasid_client *client);
/* The connection is known now, by this token alone.  false: no memory. */
bool mend_learned(struct mend *mend, const struct link *link, const struct mend_status *status);

/* ---- not under the lock ---- */

int mend_ask_status(struct ioasid_client *client, struct link *link, uint64_t deadline_us,
		    struct ioasid_cancel *cancel, struct mend_status *ret_status,
		    struct ioasid_error **ret_error);
/*
 * Makes what the client held the new connection's: Resume by every token, then AdoptLease
 * for the named leases that did not come back; marks in the holds what has.  *ret_status is
 * of the new connection, also after a failure if the broker gave it.  *ret_taken: leases may
 * be this connection's now, so that its token has to be tried as well the next time.
 */
int mend_take_back(struct ioasid_client *client, struct link *link, struct mend_status *ret_status,
		   bool *ret_taken, struct ioasid_error **ret_error);
/* AdoptLease for one lease at a time; called with the lock, which it drops meanwhile. */
int mend_adopt_rest(struct ioasid_client *client, struct link *link,
		    struct ioasid_error **ret_error);

#endif
