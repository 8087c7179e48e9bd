/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting, counting references, closing.
 *
 * gRPC is initialised once for each client (it counts); nothing else here is global.  Its
 * threads are started with every signal blocked, so that they never take a signal that the
 * program expects elsewhere.
 */
#include "mend.h"
#include "error.h"
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS   30000
#define RECONNECT_MS 30000

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

static void client_free(struct ioasid_client *client)
{
	mend_stop(client);
	link_unref(client->link);
	if (client->fd >= 0)
		close(client->fd);
	for (size_t i = 0; i < client->n_pool; i++) {
		grpc_completion_queue_shutdown(client->pool[i]);
		grpc_completion_queue_destroy(client->pool[i]);
	}
	grpc_shutdown();
	mend_deinit(&client->mend);
	pthread_mutex_destroy(&client->pool_lock);
	pthread_mutex_destroy(&client->lock);
	free(client->path);
	free(client->lease);
	free(client->tenant);
	if (client->given) {
		free(client->given->lease);
		free(client->given->tenant);
	}
	free(client->given);
	free(client);
}

/* 0: never. */
static uint32_t reconnect_ms(const struct ioasid_options *options)
{
	if (options->reconnect_ms == IOASID_NO_RECONNECT)
		return 0;
	return options->reconnect_ms ?: RECONNECT_MS;
}

int ioasid_connect(const char *socket_path, const struct ioasid_options *options,
		   struct ioasid_client **ret_client, struct ioasid_error **ret_error)
{
	static const struct ioasid_options defaults;
	struct ioasid_client *client;
	sigset_t all, before;
	int r;

	if (!options)
		options = &defaults;
	if (!ret_client)
		return error_invalid("connect", ret_error, "ret_client is NULL");
	if (!reserved_is_zero(options->reserved, 3))
		return error_invalid("connect", ret_error, "options: reserved members are not 0");
	if (options->flags)
		return error_invalid("connect", ret_error, "options: unknown flags %#x",
				     options->flags);

	client = calloc(1, sizeof(*client));
	if (!client)
		return error_no_memory(ret_error);
	client->references = 1;
	client->fd = -1;
	pthread_mutex_init(&client->lock, NULL);
	pthread_mutex_init(&client->pool_lock, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	grpc_init();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	client->timeout_ms = options->timeout_ms ?: TIMEOUT_MS;
	client->connect_timeout_ms = options->connect_timeout_ms ?: SOCKET_TIMEOUT_MS;
	client->path = strdup(socket_path_or_default(socket_path));
	client->lease = options->lease ? strdup(options->lease) : NULL;
	client->tenant = options->tenant ? strdup(options->tenant) : NULL;
	if (!mend_init(&client->mend, reconnect_ms(options)) || !client->path ||
	    !client->lease != !options->lease || !client->tenant != !options->tenant) {
		r = error_no_memory(ret_error);
		goto fail;
	}

	client->epoch = 1;
	r = link_open(client->path, client->connect_timeout_ms, client->epoch, &client->link,
		      ret_error);
	if (r < 0)
		goto fail;
	client->fd = fcntl(client->link->fd, F_DUPFD_CLOEXEC, 3);
	if (client->fd < 0) {
		r = error_make(
			&(const struct error_info){
				.error = -errno,
				.code = IOASID_INTERNAL,
				.reason = "INVALID_CALL",
				.method = "connect",
			},
			ret_error, "cannot duplicate a socket: %m");
		goto fail;
	}
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
		mend_disconnect(client);
}

uint64_t ioasid_client_restarts(const struct ioasid_client *client)
{
	return client->mend.restarts;
}

unsigned ioasid_client_forget_lost(struct ioasid_client *client)
{
	unsigned n;

	pthread_mutex_lock(&client->lock);
	n = holds_forget_lost(&client->mend.holds);
	pthread_mutex_unlock(&client->lock);
	return n;
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
