/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_LINK_H
#define LIBIOASID_LINK_H

/*
 * One connection to a broker: a channel and its socket.  A client has one at a time; a call
 * holds a reference to the one that it was sent on, so that the client may move on to the
 * next one meanwhile.
 */

#include "ioasid.h"

#include <grpc/grpc.h>

/* Room for GetStatusResponse.resume_token; a longer one is not used. */
#define LINK_TOKEN_MAX 64

struct link_token {
	size_t length;
	uint8_t bytes[LINK_TOKEN_MAX];
};

struct link {
	_Atomic unsigned references;
	grpc_channel *channel;
	/* A duplicate of the channel's socket. */
	int fd;
	/* Which of the client's connections it is, from 1. */
	uint64_t epoch;
	/* CLOCK_MONOTONIC, microseconds. */
	uint64_t opened_us;
	/* A broker has answered something on it. */
	_Atomic bool answered;
};

/* Connects.  Before it gRPC must be initialised; signals of the caller are as they were. */
int link_open(const char *path, uint32_t timeout_ms, uint64_t epoch, struct link **ret_link,
	      struct ioasid_error **ret_error);
struct link *link_ref(struct link *link);
/* The last one ends the connection, at once for the broker.  NULL-safe. */
void link_unref(struct link *link);
/* Has the broker hung up, or does it within wait_ms? */
bool link_hung_up(const struct link *link, int wait_ms);
/* Ends the connection under the calls that use it. */
void link_shut(const struct link *link);

#endif
