/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting, counting references, closing.
 *
 * gRPC is initialised once for each client (it counts); nothing else here is global.  Its
 * threads are started with every signal blocked, so that they never take a signal that the
 * program expects elsewhere.
 *
 * The channel is made from a socket that is connected already, and has no resolver, no
 * reconnect and no retry: when that socket ends, so does the client.
 */
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
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS 30000

const char *ioasid_version(void)
{
	return IOASID_VERSION;
}

static bool reserved_is_zero(const uint64_t *reserved, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (reserved[i])
			return false;
	return true;
}

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

static void client_free(struct ioasid_client *client)
{
	if (client->fd >= 0) {
		/* The broker sees the end now, not when gRPC has tidied up. */
		(void)shutdown(client->fd, SHUT_RDWR);
		close(client->fd);
	}
	for (size_t i = 0; i < client->n_pool; i++) {
		grpc_completion_queue_shutdown(client->pool[i]);
		grpc_completion_queue_destroy(client->pool[i]);
	}
	if (client->channel) {
		grpc_channel_destroy(client->channel);
		grpc_shutdown();
	}
	pthread_mutex_destroy(&client->pool_lock);
	free(client->path);
	free(client->lease);
	free(client->tenant);
	free(client);
}

int ioasid_connect(const char *socket_path, const struct ioasid_options *options,
		   struct ioasid_client **ret_client, struct ioasid_error **ret_error)
{
	static const struct ioasid_options defaults;
	struct ioasid_client *client;
	sigset_t all, before;
	int fd = -1, r;

	if (!options)
		options = &defaults;
	if (!ret_client)
		return error_invalid("connect", ret_error, "ret_client is NULL");
	if (!reserved_is_zero(options->reserved, 4))
		return error_invalid("connect", ret_error, "options: reserved members are not 0");

	client = calloc(1, sizeof(*client));
	if (!client)
		return error_no_memory(ret_error);
	client->references = 1;
	client->fd = -1;
	pthread_mutex_init(&client->pool_lock, NULL);
	client->timeout_ms = options->timeout_ms ?: TIMEOUT_MS;
	client->connect_timeout_ms = options->connect_timeout_ms ?: SOCKET_TIMEOUT_MS;
	client->path = strdup(socket_path_or_default(socket_path));
	client->lease = strdup(options->lease ?: "");
	client->tenant = strdup(options->tenant ?: "");
	if (!client->path || !client->lease || !client->tenant) {
		r = error_no_memory(ret_error);
		goto fail;
	}

	r = socket_connect(client->path, client->connect_timeout_ms, &fd, ret_error);
	if (r < 0)
		goto fail;
	client->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (client->fd < 0) {
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

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	grpc_init();
	client->channel = make_channel(fd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	*ret_client = client;
	return 0;

fail:
	client_free(client);
	return r;
}

struct ioasid_client *ioasid_client_ref(struct ioasid_client *client)
{
	if (client)
		atomic_fetch_add_explicit(&client->references, 1, memory_order_relaxed);
	return client;
}

struct ioasid_client *ioasid_client_unref(struct ioasid_client *client)
{
	if (client && atomic_fetch_sub_explicit(&client->references, 1, memory_order_acq_rel) == 1)
		client_free(client);
	return NULL;
}

const char *ioasid_client_socket(const struct ioasid_client *client)
{
	return client->path;
}

int ioasid_client_fd(const struct ioasid_client *client)
{
	return client->fd;
}

void ioasid_client_disconnect(struct ioasid_client *client)
{
	if (client)
		(void)shutdown(client->fd, SHUT_RDWR);
}

bool client_hung_up(const struct ioasid_client *client)
{
	struct pollfd p = {.fd = client->fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0;
}

grpc_completion_queue *client_queue_get(struct ioasid_client *client)
{
	grpc_completion_queue *queue = NULL;

	pthread_mutex_lock(&client->pool_lock);
	if (client->n_pool)
		queue = client->pool[--client->n_pool];
	pthread_mutex_unlock(&client->pool_lock);
	return queue ?: grpc_completion_queue_create_for_pluck(NULL);
}

void client_queue_put(struct ioasid_client *client, grpc_completion_queue *queue)
{
	pthread_mutex_lock(&client->pool_lock);
	if (client->n_pool < CLIENT_POOL_SIZE) {
		client->pool[client->n_pool++] = queue;
		queue = NULL;
	}
	pthread_mutex_unlock(&client->pool_lock);
	if (queue) {
		grpc_completion_queue_shutdown(queue);
		grpc_completion_queue_destroy(queue);
	}
}
