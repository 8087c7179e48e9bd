/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_SERVER_H
#define IOASID_TRANSPORT_SERVER_H

/*
 * What the files of the state thread share: the transport, its connections, their calls.
 * Everything here belongs to the state thread unless it says otherwise.
 *
 * Life of a connection: open -> closing (peer gone, kicked, or the server ends) -> freed.
 * It is freed when gRPC has reported the end of its server and its last call is gone;
 * "closing" happens once, whoever notices first.
 *
 * Life of a call: armed (waits in gRPC for a request) -> running -> answered -> freed.  It is
 * freed when it has been answered and none of its batches is under way.  The broker's half
 * (call->broker_call) ends with the broker's finish, never sooner.
 */

#include "acceptor.h"
#include "list.h"
#include "mailbox.h"
#include "stall.h"
#include "transport.h"
#include "workers.h"

#include <grpc/grpc.h>

/* What gRPC's completion queue gives back. */
struct cq_tag {
	void (*fired)(struct cq_tag *tag, bool ok);
};

struct service_method;

struct transport {
	struct transport_config config;
	struct broker *broker;
	grpc_completion_queue *cq;
	grpc_server_credentials *credentials;

	/* Wakes the state thread: an empty batch on a call that goes nowhere. */
	grpc_channel *lame_channel;
	grpc_call *lame_call;
	struct cq_tag wake_tag;
	struct mailbox mailbox;
	struct stall stall;

	struct principal_table *principals;
	struct acceptor *acceptor;
	struct workers *workers;

	struct list connections;
	size_t n_connections;
	/*
	 * Arrivals to be opened and connections to be closed.  Each costs as much as several
	 * calls, so they are done one at a time between calls: a uid that connects without end
	 * slows others by one connection, not by its whole queue.
	 */
	struct list arrivals;
	struct list endings;
	/* Refused sessions, by the time when they are closed. */
	struct list refused;

	struct call *free_calls;
	size_t n_free_calls;
	/* Streams whose next message waits until gRPC has looked at its sockets again. */
	struct list deferred;
	/* Connections that may have their next requests when gRPC has looked at its sockets. */
	struct list unarmed;
	unsigned requests_since_poll;
	unsigned sends_since_poll;
	unsigned events_since_poll;

	uint64_t watchdog_us; /* 0: none */
	uint64_t watchdog_at;
	bool stopping;
	uint64_t cancel_at; /* when calls that do not end by themselves are cut off */
	uint64_t give_up_at;
};

void transport_log(struct transport *transport, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- connection.c ---- */

struct connection {
	struct transport *transport;
	struct list link;
	struct list ending_link;
	struct list refused_link;
	uint64_t close_at; /* refused */
	struct principal *principal;
	size_t *unsent; /* the principal's */
	struct broker_peer peer;
	struct broker_session *session; /* NULL: closed */
	grpc_server *server;
	struct cq_tag shutdown_tag;
	/* A dup of the socket: its end is watched, and shutdown(2) on it ends the connection. */
	int control_fd;
	uint64_t watch;
	struct list calls;
	unsigned n_calls; /* running, without the armed ones */
	struct list unarmed_link;
	unsigned n_unarmed; /* calls to be armed */
	unsigned n_resets;  /* calls reset before they were read; a leaky bucket */
	uint64_t resets_at;
	_Atomic bool expelled;
	/* The acceptor's, while it looks for who stalls gRPC; under the lock of the watches. */
	int unread;
	unsigned n_drains;
	bool closing;
	bool server_ended;
};

/* Takes over the arrival. */
void connection_arrived(struct mail *mail);
/* Opens or closes one connection; false: there is none to open or close. */
bool connections_step(struct transport *transport);
/* Ends the connection soon, through its socket.  Any thread while it is watched. */
void connection_kick(struct connection *connection);
/* The same, with a line in the log, and its principal has to wait before it may connect again. */
void connection_expel(struct connection *connection, const char *why);
/*
 * The acceptor: gRPC has not come back for some time.  Expels the connection that it is busy
 * reading; none if the stall has another cause.
 */
void connections_find_staller(struct transport *transport);
/*
 * Ends it now: calls are cancelled, then the session, then the server.  abrupt: the peer is
 * gone, or has had its time; else running calls may still answer.
 */
void connection_close(struct connection *connection, bool abrupt);
/* Frees it if nothing of it is left. */
void connection_release(struct connection *connection);
/* Kicks the refused sessions whose time is over; returns when the next one's is. */
uint64_t connections_expire(struct transport *transport, uint64_t now);

/* ---- call.c ---- */

struct call {
	struct connection *connection;
	struct list link;
	struct list deferred_link;
	struct call *next_free;
	grpc_call *grpc;
	unsigned n_batches;

	struct cq_tag request_tag;
	struct cq_tag receive_tag;
	struct cq_tag close_tag;
	struct cq_tag send_tag;
	struct cq_tag end_tag;

	grpc_metadata_array metadata;
	grpc_call_details details;
	grpc_byte_buffer *received;
	grpc_byte_buffer *sending;
	size_t n_unsent; /* bytes of sending or response, counted in *connection->unsent */
	int cancelled;

	const struct broker_method *method;
	struct broker_call *broker_call;
	const struct service_method *service;
	int service_data; /* the service's own */

	bool running;  /* counted in n_calls */
	bool was_read; /* its request, or the first message of a stream, has come */
	bool headers_sent;
	bool close_requested; /* RECV_CLOSE_ON_SERVER was started */
	bool gone;	      /* the caller went away */
	bool send_in_flight;
	bool broker_running; /* between broker_call_start() and finish */
	bool finished;	     /* the outcome below is set */
	bool answered;	     /* the last batch was started */

	grpc_status_code status;
	grpc_slice status_message;
	grpc_slice status_details; /* google.rpc.Status; empty: none */
	grpc_byte_buffer *response;
};

/* Lets gRPC give the connection's next request to a new call.  -ENOMEM, -EIO. */
int call_arm(struct connection *connection);
/* The caller went away, or the connection did. */
void call_cancel(struct call *call);
/* gRPC has looked at its sockets: connections may have their next requests. */
void calls_arm(struct transport *transport);
/* Streams that were told to wait may go on. */
void calls_resume(struct transport *transport);
/* Frees the list of unused ones. */
void calls_trim(struct transport *transport);

/* For services.h: */
/* Waits for the next message of a bidirectional stream; service->received() gets it. */
void call_receive(struct call *call);
/* A message of a stream; service->writable() says when the next may follow. */
void call_send(struct call *call, const ProtobufCMessage *message);
/* The outcome; response: unary and OK.  reason: of ErrorInfo, NULL when OK. */
void call_finish(struct call *call, grpc_status_code status, const char *reason,
		 const char *message, const ProtobufCMessage *response);

#endif
