/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_MEND_H
#define LIBIOASID_MEND_H

/*
 * A client's connection after the broker was restarted: a new one is made, takes back what
 * the old one held, and calls go on.
 *
 * A thread of the client does it, and no call, because taking leases back must not be cut
 * short by the deadline of whoever happened to call first: a half-taken lease would end with
 * the connection that took it.  It runs from the first call on that makes something, and
 * sleeps in poll() until the broker hangs up; so an idle program does not miss the time in
 * which its leases wait for it.
 *
 * Calls ask for the connection with mend_enter() and wait there, each within its deadline.
 */

#include "call.h"

/* false: no memory. */
bool mend_init(struct mend *mend, uint32_t limit_ms);
/* Ends the connection for good; the thread stays. */
void mend_disconnect(struct ioasid_client *client);
/* Ends the thread, whatever it does. */
void mend_stop(struct ioasid_client *client);
void mend_deinit(struct mend *mend);

/*
 * The connection to send a call on; the caller's reference.  Waits for one, and says what is
 * to be known of the call before it may be sent: that its lease is not lost, that the broker
 * will know this client again.  stop: ends the wait like a fired token; may be NULL.
 */
int mend_enter(struct call *call, const struct method *method, const _Atomic bool *stop,
	       struct link **ret_link, struct ioasid_error **ret_error);
/* The connection has failed a call. */
void mend_break(struct ioasid_client *client, struct link *link);
/*
 * A call has succeeded.  false: what it made is gone with the connection, and nobody was
 * told; it is to be sent again.
 */
bool mend_settle(struct call *call, const struct method *method, const struct link *link);
/* Was it the end of a connection that a new one makes good? */
bool mend_helps(const struct ioasid_client *client, const struct ioasid_error *error);
/* Was the answer only the last word of a broker that hangs up? */
bool mend_cuts_off(const struct ioasid_client *client, const struct link *link,
		   const struct ioasid_error *error);
/* Wakes those in mend_enter(). */
void mend_wake(struct ioasid_client *client);
/* How often a broker was started on its registry, as of this connection; 0: not known. */
uint64_t mend_generation(struct ioasid_client *client, const struct link *link);
/* Has the connection that answered the call last been replaced, or is about to be? */
bool mend_moved(const struct call *call);

/*
 * The program holds this named lease now.  1: it must be asked for again, the connection has
 * been replaced meanwhile.
 */
int mend_hold(const struct call *call, const char *name,
	      const uint8_t secret[IOASID_LEASE_SECRET_SIZE], struct ioasid_error **ret_error);
/* The call's lease has ended, and if it was lost, the program knows. */
void mend_release(const struct call *call);

#endif
