/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_CLIENT_H
#define LIBIOASID_CLIENT_H

/*
 * A client is one connection at a time.  Which one, and what is to be done when it ends, is
 * under its lock and the business of mend.h; the other members are fixed after
 * ioasid_connect().
 *
 * Completion queues.  Each call under way has a queue of its own, plucked by the thread
 * that made the call: the thread that waits is the one that reads the socket, no thread
 * hands results to another, and any number of threads may call (one shared queue allows
 * six pluckers).  Queues that are done wait in the pool for the next call.
 */

#include "hold.h"
#include "link.h"

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>

#define CLIENT_POOL_SIZE 16
/* A message is at most 4 MiB (ioasid.proto), in either direction. */
#define CLIENT_MESSAGE_MAX (4 * 1024 * 1024)

/* Connections that may hold what is wanted back: each that died while it was made adds one. */
#define MEND_TOKENS 8

struct mend {
	/* Fixed.  0: a connection that has ended is not replaced. */
	uint32_t limit_ms;
	/* Ends the requests of the thread. */
	struct ioasid_cancel *cancel;
	pthread_cond_t changed;
	_Atomic uint64_t restarts;

	/* Under the client's lock. */
	pthread_t thread;
	int eventfd;
	bool started;
	bool closing;
	bool disconnected;
	/* The thread waits until somebody wants a connection. */
	bool idle;
	/* The connection that ended last had been good for nothing. */
	bool flapping;
	unsigned waiters;
	/* Tries to connect. */
	uint64_t begun;
	uint64_t done;
	/* Since when there is no working connection. */
	uint64_t outage_us;
	/* Why the last try failed; the broker knows the caller and refuses it. */
	struct ioasid_error *error;
	bool refused;
	/* Of GetStatus on connection `known`. */
	uint64_t known;
	uint64_t generation;
	size_t n_tokens;
	struct link_token tokens[MEND_TOKENS];
	struct holds holds;
};

/* The defaults of a client that was made without, once a lease was given; see given.c. */
struct client_given {
	char *lease;
	char *tenant;
};

struct ioasid_client {
	_Atomic unsigned references;
	/* The program's: a duplicate of the socket, which keeps its number. */
	int fd;
	char *path;
	/* NULL: the program gave none. */
	char *lease;
	char *tenant;
	/* Set once; NULL: no lease was given.  Lives as long as the client. */
	struct client_given *_Atomic given;
	uint32_t timeout_ms;
	uint32_t connect_timeout_ms;

	pthread_mutex_t lock;
	/* Under lock.  NULL: the last one has ended. */
	struct link *link;
	/* Of the last one. */
	uint64_t epoch;
	struct mend mend;

	pthread_mutex_t pool_lock;
	/* Under pool_lock: idle queues. */
	grpc_completion_queue *pool[CLIENT_POOL_SIZE];
	size_t n_pool;
};

grpc_completion_queue *client_queue_get(struct ioasid_client *client);
/* Nothing may be under way on it. */
void client_queue_put(struct ioasid_client *client, grpc_completion_queue *queue);

#endif
