/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_H
#define IOASID_TRANSPORT_H

/*
 * The gRPC server around a broker: sockets, HTTP/2, threads, clocks.  It hosts the broker by
 * server/broker/broker.h and keeps every promise made there.
 *
 *   state thread     the caller of transport_run(): gRPC's completion queue, every call into
 *                    the broker and every callback from it, all timers
 *   acceptor         acceptor.h: the door, signals, watched fds
 *   workers          workers.h: what may block
 *   writers          sink.h: audit and log, one thread each
 *
 * Other threads reach the state thread through mailbox.h only.  Identity: one grpc_server for
 * each accepted connection, all on one completion queue; the tag of an event leads to the
 * call, the call to its connection, the connection to the credentials that the kernel gave at
 * accept.  Nothing that a client sends takes part in it.
 */

#include "listener.h"
#include "principal.h"
#include "server/broker/broker.h"

struct sink;
struct transport;

struct transport_config {
	struct listeners *listeners; /* borrowed; unlinked when the server stops listening */
	struct sink *audit;	     /* borrowed; NULL: none */
	struct sink *log;	     /* borrowed; NULL: none */
	bool log_levels;	     /* lines begin with "<level>", as sd-daemon(3) wants */

	unsigned workers; /* threads for blocking work */
	struct principal_limits limits;
	unsigned guests;       /* connections whose first bytes are awaited */
	unsigned handshake_ms; /* how long they are awaited */
	unsigned streams;      /* calls at once on a connection */
	unsigned message_max;  /* bytes of a request */
	unsigned refused_ms;   /* how long a refused session may ask for the reason */
	unsigned drain_ms;     /* how long an orderly end may take */
	/*
	 * A ping while calls are open, after this many idle seconds; 0: none.  A peer that does
	 * not answer it within ten seconds is let go.  Off by default:
	 * a local socket tells the death of its peer at once, so a ping could only find a
	 * stopped or busy process, whose leases it would take away.
	 */
	unsigned keepalive_seconds;
};

void transport_config_init(struct transport_config *ret_config);

/* grpc_init() has been called; SIGTERM, SIGINT, SIGHUP and SIGRTMIN are blocked in all threads. */
int transport_new(const struct transport_config *config, struct transport **ret_transport);
/* For broker_config; the host is the transport. */
const struct broker_host_ops *transport_host_ops(void);
/*
 * Serves until SIGTERM or SIGINT, then shuts down in order; afterwards the broker is drained
 * and may be freed.  -ETIMEDOUT: it is not, and neither it nor the transport may be freed.
 */
int transport_run(struct transport *transport, struct broker *broker);
void transport_free(struct transport *transport); /* NULL-safe */

#endif
