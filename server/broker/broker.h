/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_H
#define IOASID_BROKER_H

/*
 * The broker below gRPC: tenants, leases, objects, charges, the method table.  Whoever
 * hosts it (the gRPC transport, the in-process driver of the tests) opens a session for
 * each connection, starts calls on it and gets exactly one answer for each.
 *
 * What it never does: speak HTTP/2, poll, open a device node, read a clock of its own.
 *
 * Threads.  One thread, the state thread, makes every call declared here and gets every
 * callback, unless said otherwise.  Work that can block is handed to the host
 * (broker_host_ops.submit): work->run() is called on a worker, then work->done() on the
 * state thread.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct broker;
struct broker_session;
struct broker_call;
struct policy;
struct policy_vocabulary;
struct shim;
struct keeper;
struct registry;
struct registry_boot_id;
struct registry_image;

/* ---- what the host provides ---- */

struct broker_work {
	/* On a worker: touches only what the work owns. */
	void (*run)(struct broker_work *work);
	/* On the state thread, once, after run(). */
	void (*done)(struct broker_work *work);
	/* The host's: link in its queue; fair between different keys. */
	struct broker_work *next;
	const void *fairness_key;
};

/* A readable fd (pidfd) that the broker waits for. */
struct broker_watch {
	int fd;
	/* On the state thread, when the fd became readable; the watch is removed before. */
	void (*ready)(struct broker_watch *watch);
	/* The host's. */
	void *host_data;
};

struct broker_host_ops {
	/* CLOCK_MONOTONIC and CLOCK_REALTIME, microseconds. */
	uint64_t (*monotonic_us)(void *host);
	uint64_t (*realtime_us)(void *host);
	/* Never fails: the work carries its own link.  At most the host's number run at once. */
	void (*submit)(void *host, struct broker_work *work);
	/* -errno: cannot watch.  unwatch: no callback afterwards. */
	int (*watch)(void *host, struct broker_watch *watch);
	void (*unwatch)(void *host, struct broker_watch *watch);
	/* The broker wants this session's connection to end (revoked, protocol abuse). */
	void (*kick)(void *host, void *connection);
	/* One audit record, a line of JSON without newline.  Must not block; may lose. */
	void (*audit)(void *host, const char *line, size_t length);
	/* One log line for the operator; level as in syslog(3). */
	void (*log)(void *host, int level, const char *line);
};

struct broker_config {
	const struct broker_host_ops *host_ops;
	void *host;
	/* Borrowed; outlives the broker. */
	struct shim *shim;
	/* Taken over by broker_new() on success. */
	struct policy *policy;
	/* Where ReloadPolicy reads; NULL: it answers UNIMPLEMENTED. */
	const char *policy_path;
	/* Holds duplicates of memfds for the next broker; borrowed.  NULL: nobody does. */
	struct keeper *keeper;
	/* How long a page request waits for its answer; 0: 5 seconds. */
	uint64_t fault_timeout_us;
};

int broker_new(const struct broker_config *config, struct broker **ret_broker);
/*
 * [blocking] Before anybody is served: finds again what is in the registry's image (NULL: there
 * was none), ends what nobody knows, and begins the new log; from here on the registry, which
 * is borrowed and outlives the broker, is kept.  boot: of this machine; what is of another boot
 * is gone.  grace_us: how long connection leases wait for their connection.  aside: NULL, or
 * the suffix under which the old log is kept.  -errno: nothing can be served.
 */
int broker_restore(struct broker *broker, struct registry *registry,
		   const struct registry_image *image, const struct registry_boot_id *boot,
		   uint64_t grace_us, const char *aside);
/*
 * The host is about to end the connections: that is none of their clients' doing, and where a
 * registry is kept their leases stay for the next broker.
 */
void broker_ending(struct broker *broker);
/*
 * Orderly end: closes every session and lease.  Call broker_drained() (after each done()
 * and tick) until it is true, then broker_free().
 */
void broker_shutdown(struct broker *broker);
bool broker_drained(struct broker *broker);
/* Asserts that every counter is zero.  NULL-safe. */
void broker_free(struct broker *broker);

/* When broker_tick() wants to be called next (monotonic us); UINT64_MAX: never. */
uint64_t broker_next_deadline(struct broker *broker);
void broker_tick(struct broker *broker);
/*
 * What SIGHUP does.  POLICY_E_INVALID: the policy cannot be read, is wrong or does not fit;
 * -ENOMEM.  Either way nothing has changed and the problem is told in text.
 */
int broker_reload_policy(struct broker *broker, char *ret_problem, size_t problem_size);

/* The words for formats and kinds in a policy (proto/vocab.h). */
const struct policy_vocabulary *broker_policy_vocabulary(void);

/* ---- sessions: one a connection ---- */

struct broker_peer {
	const char *socket; /* name of the listening socket, "tenants" or "admin" */
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

enum broker_error {
	/* Too many connections, even to be told so: close at once. */
	BROKER_E_CONNECTIONS = 1,
};

/*
 * A peer that policy does not know, or whose tenant is at its limit of connections, still
 * gets a session (a bounded number of them) on which every call is refused with the
 * reason; *ret_refused is then true and the host closes it soon.
 */
int broker_session_open(struct broker *broker, const struct broker_peer *peer, void *connection,
			bool *ret_refused, struct broker_session **ret_session);
/* The connection has ended; its calls are cancelled first.  The pointer is dead then. */
void broker_session_close(struct broker_session *session);

/* ---- calls ---- */

struct broker_method;

/* path: "/ioasid.v1.Broker/Alloc", not terminated.  NULL: no such method. */
const struct broker_method *broker_method_find(const char *path, size_t length);
/* One answer (false) or a stream of them (true). */
bool broker_method_is_streaming(const struct broker_method *method);
const char *broker_method_path(const struct broker_method *method);
/* Every method, for reflection and tests; NULL: index out of range. */
const struct broker_method *broker_method_at(size_t index);

/* The outcome of a call; everything is borrowed for the time of the callback. */
struct broker_answer {
	/* A grpc_status_code; 0 OK. */
	int code;
	const char *message;
	/* google.rpc.Status, serialized; empty when OK. */
	const uint8_t *details;
	size_t n_details;
	/* Unary and OK: the response message. */
	const ProtobufCMessage *response;
};

struct broker_call_ops {
	/* Exactly once; the call is gone afterwards.  May come from within broker_call_start(). */
	void (*finish)(void *userdata, const struct broker_answer *answer);
	/*
	 * Streaming only: one message.  Only between broker_call_start() and finish, and only
	 * while the last one was followed by broker_call_writable().
	 */
	void (*send)(void *userdata, const ProtobufCMessage *message);
};

/*
 * Starts a call with the request's bytes (borrowed).  *ret_call is set before any callback
 * and is valid until finish.  Never fails: whatever is wrong becomes the answer.
 */
void broker_call_start(struct broker_session *session, const struct broker_method *method,
		       const uint8_t *request, size_t length, const struct broker_call_ops *ops,
		       void *userdata, struct broker_call **ret_call);
/* The transport took the last message of a stream and can take another. */
void broker_call_writable(struct broker_call *call);
/*
 * The caller went away.  finish still comes, at once or when what runs on a worker has
 * ended and is undone.
 */
void broker_call_cancel(struct broker_call *call);

/* ---- the fd-passing protocol (docs/fd-protocol.md) ---- */

/* The numbers are the protocol's status on the wire. */
enum broker_ticket_result {
	BROKER_TICKET_OK = 0,
	BROKER_TICKET_REFUSED = 2,
	BROKER_TICKET_UNSUITABLE = 3,
	BROKER_TICKET_BUSY = 4,
	BROKER_TICKET_UNAVAILABLE = 5,
};

/*
 * A peer gives or takes an fd with a ticket.  Returns enum broker_ticket_result.  give: fd is taken
 * over on success. take: *ret_fd is the caller's.
 */
int broker_ticket_give(struct broker *broker, const struct broker_peer *peer,
		       const uint8_t ticket[static 16], int fd);
int broker_ticket_take(struct broker *broker, const struct broker_peer *peer,
		       const uint8_t ticket[static 16], int *ret_fd);

#endif
