/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_SERVER_H
#define KUBERNETES_SERVER_H

/*
 * The gRPC half that kubelets call: a port for each resource, and one thread that serves them
 * all.  It carries messages and keeps ListAndWatch streams up to date; what an answer says is
 * decided by who made the server.
 *
 * Invariants.  A stream has at most one message under way and is sent the newest list when
 * that has left: one that is not read costs one message.  Calls, streams and connections of a
 * port are bounded; what is beyond is refused at once.  A call is answered exactly once.
 */

#include <grpc/status.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum server_method {
	SERVER_OPTIONS,
	SERVER_PREFER,
	SERVER_ALLOCATE,
	SERVER_PRE_START,
};

struct server;
struct server_call;

struct server_ops {
	/* On the server's thread: must not block.  Ends in server_finish(), now or later. */
	void (*request)(void *userdata, struct server_call *call, unsigned port,
			enum server_method method, const uint8_t *bytes, size_t length);
};

/* gRPC is initialised; signals are blocked. */
int server_new(unsigned n_ports, const struct server_ops *ops, void *userdata,
	       struct server **ret_server);
/*
 * Every call that request() was given has been finished, or is by another thread meanwhile.
 * NULL-safe.
 */
void server_free(struct server *server);
/* A connection, non-blocking, the server's from now on.  -EBUSY: too many. */
int server_adopt(struct server *server, unsigned port, int fd);
/* What ListAndWatch says from now on.  Any thread. */
void server_publish(struct server *server, unsigned port, const ProtobufCMessage *list);
/* message: of a status that is not OK.  response: of OK.  Any thread; the call is gone then. */
void server_finish(struct server_call *call, grpc_status_code status, const char *message,
		   const ProtobufCMessage *response);

#endif
