/* SPDX-License-Identifier: Apache-2.0 */
/* Parser and builder of the fd-passing protocol, docs/fd-protocol.md. */
#include "fd_protocol.h"

#include <string.h>

#define VERSION 1

/* Offsets in the request and, up to FLAGS, in the reply. */
enum {
	AT_VERSION = 4,
	AT_OP = 5,
	AT_STATUS = 5,
	AT_FLAGS = 6,
	AT_RESERVED = 24,
};

enum fd_status fd_request_parse(const uint8_t *bytes, size_t size, size_t n_fds,
				struct fd_request *ret_request)
{
	static const uint8_t zero[FD_PROTOCOL_REQUEST_SIZE];

	if (size != FD_PROTOCOL_REQUEST_SIZE ||
	    memcmp(bytes, FD_PROTOCOL_MAGIC, FD_PROTOCOL_MAGIC_SIZE) ||
	    bytes[AT_VERSION] != VERSION)
		return FD_STATUS_MALFORMED;
	if (memcmp(bytes + AT_FLAGS, zero, 2) || memcmp(bytes + AT_RESERVED, zero, 8))
		return FD_STATUS_MALFORMED;
	if (!((bytes[AT_OP] == FD_OP_GIVE && n_fds == 1) ||
	      (bytes[AT_OP] == FD_OP_TAKE && n_fds == 0)))
		return FD_STATUS_MALFORMED;
	ret_request->op = bytes[AT_OP];
	memcpy(ret_request->ticket, bytes + FD_PROTOCOL_TICKET_OFFSET, FD_PROTOCOL_TICKET_SIZE);
	return FD_STATUS_OK;
}

void fd_reply_build(enum fd_status status, uint8_t ret_reply[static FD_PROTOCOL_REPLY_SIZE])
{
	memset(ret_reply, 0, FD_PROTOCOL_REPLY_SIZE);
	memcpy(ret_reply, FD_PROTOCOL_MAGIC, FD_PROTOCOL_MAGIC_SIZE);
	ret_reply[AT_VERSION] = VERSION;
	ret_reply[AT_STATUS] = status;
}
