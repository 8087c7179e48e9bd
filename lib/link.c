/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel is made from a socket that is connected already, and has no resolver, no
 * reconnect and no retry of gRPC's: when that socket ends, so does the channel.  What comes
 * after it is decided in mend.c, which knows what a connection held.
 */
#include "link.h"
#include "client.h"
#include "error.h"
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Takes the socket over, whatever comes. */
static grpc_channel *make_channel(int fd)
{
	grpc_arg args[] = {
		{
			.type = GRPC_ARG_INTEGER,
			.key = (char *)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
			.value.integer = CLIENT_MESSAGE_MAX,
		},
		{
			.type = GRPC_ARG_STRING,
			.key = (char *)GRPC_ARG_DEFAULT_AUTHORITY,
			.value.string = (char *)"localhost",
		},
		{
			.type = GRPC_ARG_STRING,
			.key = (char *)GRPC_ARG_PRIMARY_USER_AGENT_STRING,
			.value.string = (char *)"libioasid/" IOASID_VERSION,
		},
	};
	const grpc_channel_args channel_args = {sizeof(args) / sizeof(args[0]), args};
	grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
	grpc_channel *channel;

	channel = grpc_channel_create_from_fd("ioasid", fd, credentials, &channel_args);
	grpc_channel_credentials_release(credentials);
	return channel;
}

int link_open(const char *path, uint32_t timeout_ms, uint64_t epoch, struct link **ret_link,
	      struct ioasid_error **ret_error)
{
	struct link *link = calloc(1, sizeof(*link));
	sigset_t all, before;
	int fd, r;

	if (!link)
		return error_no_memory(ret_error);
	link->references = 1;
	link->epoch = epoch;
	link->opened_us = time_now_us();
	r = socket_connect(path, timeout_ms, &fd, ret_error);
	if (r < 0)
		goto fail;
	link->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (link->fd < 0) {
		r = error_make(
			&(const struct error_info){
				.error = -errno,
				.code = IOASID_INTERNAL,
				.reason = "INVALID_CALL",
				.method = "connect",
			},
			ret_error, "cannot duplicate a socket: %m");
		close(fd);
		goto fail;
	}
	/* Threads that gRPC starts here take no signal that the program expects elsewhere. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	link->channel = make_channel(fd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	*ret_link = link;
	return 0;

fail:
	free(link);
	return r;
}

struct link *link_ref(struct link *link)
{
	atomic_fetch_add_explicit(&link->references, 1, memory_order_relaxed);
	return link;
}

void link_unref(struct link *link)
{
	if (!link || atomic_fetch_sub_explicit(&link->references, 1, memory_order_acq_rel) != 1)
		return;
	/* The broker sees the end now, not when gRPC has tidied up. */
	link_shut(link);
	close(link->fd);
	grpc_channel_destroy(link->channel);
	free(link);
}

bool link_hung_up(const struct link *link, int wait_ms)
{
	struct pollfd p = {.fd = link->fd, .events = POLLRDHUP};

	return poll(&p, 1, wait_ms) > 0;
}

void link_shut(const struct link *link)
{
	(void)shutdown(link->fd, SHUT_RDWR);
}
