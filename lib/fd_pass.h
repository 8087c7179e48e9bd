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

#endif
