/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_CLIENT_H
#define LIBIOASID_CLIENT_H

/*
 * A client is one connection.  Its members but the pool are fixed after ioasid_connect().
 *
 * Completion queues.  Each call under way has a queue of its own, plucked by the thread
 * that made the call: the thread that waits is the one that reads the socket, no thread
 * hands results to another, and any number of threads may call (one shared queue allows
 * six pluckers).  Queues that are done wait in the pool for the next call.
 */

#include "ioasid.h"

#include <grpc/grpc.h>
#include <pthread.h>

#define CLIENT_POOL_SIZE 16
/* A message is at most 4 MiB (ioasid.proto), in either direction. */
#define CLIENT_MESSAGE_MAX (4 * 1024 * 1024)

struct ioasid_client {
	_Atomic unsigned references;
	grpc_channel *channel;
	/* A duplicate of the channel's socket. */
	int fd;
	char *path;
	char *lease;
	char *tenant;
	uint32_t timeout_ms;
	uint32_t connect_timeout_ms;

	pthread_mutex_t pool_lock;
	/* Under pool_lock: idle queues. */
	grpc_completion_queue *pool[CLIENT_POOL_SIZE];
	size_t n_pool;
};

grpc_completion_queue *client_queue_get(struct ioasid_client *client);
/* Nothing may be under way on it. */
void client_queue_put(struct ioasid_client *client, grpc_completion_queue *queue);
/* Has the broker hung up? */
bool client_hung_up(const struct ioasid_client *client);

#endif
