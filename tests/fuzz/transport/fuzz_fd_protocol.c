/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of fd requests: first byte of the input = number of fds that came, the rest =
 * the request.  What it accepts must be the one encoding of what it returns.
 */
#include "server/transport/fd_protocol.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t again[FD_PROTOCOL_REQUEST_SIZE] = {'I', 'O', 'F', 'D', 1};
	struct fd_request request;
	enum fd_status status;
	uint8_t reply[FD_PROTOCOL_REPLY_SIZE];

	if (!size)
		return 0;
	memset(&request, 0x5a, sizeof(request));
	status = fd_request_parse(data + 1, size - 1, data[0], &request);
	fd_reply_build(status, reply);
	if (memcmp(reply, "IOFD\1", 5) || reply[5] != status)
		abort();
	if (status == FD_STATUS_MALFORMED)
		return 0;
	again[5] = request.op;
	memcpy(again + 8, request.ticket, sizeof(request.ticket));
	if (status != FD_STATUS_OK || size != 1 + sizeof(again) ||
	    memcmp(again, data + 1, sizeof(again)) || data[0] != (request.op == FD_OP_GIVE))
		abort();
	return 0;
}
