/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's datagrams: first byte of the input = number of fds that came, the rest = a
 * request, or a reply to each operation.  What is accepted must be the one encoding of what
 * it was read as; an address that is accepted can be nothing but a name in sysfs, and a name
 * in a reply nothing but what fits the client's buffer.
 */
#include "keeper/protocol.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(const uint8_t *data, size_t size, size_t n_fds)
{
	uint8_t again[KEEPER_REQUEST_SIZE];
	struct keeper_request request;

	if (keeper_request_parse(data, size, n_fds, &request) < 0)
		return;
	keeper_request_build(&request, again);
	if (size != sizeof(again) || memcmp(data, again, sizeof(again)) != 0)
		abort();
	if (n_fds != (request.op == KEEPER_OP_FD_HOLD || request.op == KEEPER_OP_CONTEXT_DELEGATE ||
		      request.op == KEEPER_OP_HOLDER_END) ||
	    keeper_request_reply_fds(&request) > KEEPER_DEVICES_MAX)
		abort();
	for (size_t i = 0; i < request.n_addresses; i++)
		if (strlen(request.addresses[i]) != 12 || strchr(request.addresses[i], '/'))
			abort();
	if (strchr(request.name, '/') || strchr(request.owner, '\n'))
		abort();
}

static void try_reply(const uint8_t *data, size_t size, size_t n_fds)
{
	for (enum keeper_op op = 1; op < _KEEPER_OP_MAX; op++) {
		struct keeper_request request = {.op = op, .n_addresses = 2};
		uint8_t again[KEEPER_REPLY_SIZE];
		struct keeper_reply reply;

		if (keeper_reply_parse(data, size, n_fds, &request, &reply) < 0)
			continue;
		keeper_reply_build(&reply, again);
		if (size != sizeof(again) || memcmp(data, again, sizeof(again)) != 0)
			abort();
		if (strnlen(reply.name, sizeof(reply.name)) == sizeof(reply.name) ||
		    strchr(reply.name, '/'))
			abort();
		if (op == KEEPER_OP_CLAIM_NEXT && !reply.status && strlen(reply.name) != 12)
			abort();
		if (op == KEEPER_OP_FD_NEXT && !reply.status && !*reply.name)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	try_request(data + 1, size - 1, data[0]);
	try_reply(data + 1, size - 1, data[0]);
	return 0;
}
