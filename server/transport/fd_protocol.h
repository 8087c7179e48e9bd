/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_FD_PROTOCOL_H
#define IOASID_TRANSPORT_FD_PROTOCOL_H

/*
 * The bytes of docs/fd-protocol.md: pure functions, no I/O.  What reads the socket and keeps
 * the time is acceptor.c; what a ticket is worth, the broker knows.
 */

#include <stddef.h>
#include <stdint.h>

#define FD_PROTOCOL_MAGIC	  "IOFD"
#define FD_PROTOCOL_MAGIC_SIZE	  4
#define FD_PROTOCOL_REQUEST_SIZE  32
#define FD_PROTOCOL_REPLY_SIZE	  16
#define FD_PROTOCOL_TICKET_SIZE	  16
#define FD_PROTOCOL_TICKET_OFFSET 8

enum fd_op {
	FD_OP_GIVE = 1,
	FD_OP_TAKE = 2,
};

/* On the wire; the table of docs/fd-protocol.md. */
enum fd_status {
	FD_STATUS_OK = 0,
	FD_STATUS_MALFORMED = 1,
	FD_STATUS_REFUSED = 2,
	FD_STATUS_UNSUITABLE = 3,
	FD_STATUS_BUSY = 4,
	FD_STATUS_UNAVAILABLE = 5,
};

struct fd_request {
	enum fd_op op;
	uint8_t ticket[FD_PROTOCOL_TICKET_SIZE];
};

/*
 * bytes: the whole request; n_fds: how many fds came with it.  FD_STATUS_OK or
 * FD_STATUS_MALFORMED; *ret_request is filled on OK only.
 */
enum fd_status fd_request_parse(const uint8_t *bytes, size_t size, size_t n_fds,
				struct fd_request *ret_request);
void fd_reply_build(enum fd_status status, uint8_t ret_reply[static FD_PROTOCOL_REPLY_SIZE]);

#endif
