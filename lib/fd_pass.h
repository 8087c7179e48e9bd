/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_FD_PASS_H
#define LIBIOASID_FD_PASS_H

/* The client's side of docs/fd-protocol.md. */

#include "call.h"

/* A ticket out of an answer; an error if it has not the right size. */
int fd_pass_ticket(struct call *call, const char *method, const ProtobufCBinaryData *bytes,
		   uint32_t lifetime_ms, struct ioasid_ticket *ret_ticket);
/* OpenTicket in the scope of the call, then GIVE. */
int fd_pass_give(struct call *call, enum ioasid_ticket_purpose purpose, int fd,
		 struct ioasid_ticket *ret_ticket);
/* TAKE, within the time of the call. */
int fd_pass_take(struct call *call, const uint8_t ticket[IOASID_TICKET_SIZE], int *ret_fd);

/*
 * Tickets die with the broker that made them, so what takes several steps is repeated as a
 * whole:
 *
 *	fd_pass_begin(&retry, call);
 *	do {
 *		r = ...all the steps...
 *	} while (fd_pass_again(&retry, r));
 *	return fd_pass_end(&retry, r);
 *
 * A step that has an effect is a request with the call's key.  Cut off, it has been sent
 * again with the same ticket before the whole begins anew: if it had its effect, that gave
 * its answer; if not, the ticket was refused, and nothing remembers the key.
 */
struct fd_pass_retry {
	struct call *call;
	struct ioasid_error **ret_error;
	struct ioasid_error *error;
	uint64_t pause_ms;
};
void fd_pass_begin(struct fd_pass_retry *retry, struct call *call);
/* Once more?  Sleeps before that. */
bool fd_pass_again(struct fd_pass_retry *retry, int r);
/* Hands the error of the last try on; returns r. */
int fd_pass_end(struct fd_pass_retry *retry, int r);

#endif
