/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_SERVER_H
#define IOASID_KEEPER_SERVER_H

/*
 * The socket: who may connect, one thread a connection, one reply a request.  Decides
 * nothing; what a request does is the vault's.
 *
 * A client that sends one wrong byte, or does not take its reply within ten seconds, loses
 * the connection.  A reply that could not be sent is undone: nobody would know what it gave.
 */

#include "vault.h"

#include <sys/types.h>

#define SERVER_CONNECTIONS_MAX 64

struct server_config {
	struct vault *vault;
	const struct host *host;
	uid_t client; /* besides root */
	int listener;
	int stop; /* becomes readable: time to end */
};

/* Until stop is readable and all connections have ended. */
int server_run(const struct server_config *config);

#endif
