/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state thread: gRPC's completion queue, the mailbox, timers, the orderly end, and what
 * the broker asks of its host.  The rest of the state thread is in connection.c (sockets and
 * sessions) and call.c (RPCs).
 *
 * The end, in order: no new connections; health says so; every connection is closed, running
 * calls get UNAVAILABLE; the broker closes its leases; when nothing is left, or time is up,
 * transport_run() returns.  A second signal cuts it short.
 */
#include "server.h"

#include "clock.h"
#include "fd_protocol.h"
#include "services.h"
#include "sink.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* Deferred streams go on after this many events even if gRPC's queue is never empty. */
#define EVENTS_BETWEEN_RESUMES 256
/* Calls that the broker has ended but a client does not read are cut off after this. */
#define CANCEL_US UINT64_C(1000000)

void transport_config_init(struct transport_config *ret_config)
{
	*ret_config = (struct transport_config){
		.workers = 4,
		.limits =
			{
				.pending = 256,
				.open = 4096,
				.open_listener = 16384,
				.rate = 250,
				.memory = 64 << 20,
				.unsent = 128 << 20,
			},
		.guests = 1024,
		.handshake_ms = 2000,
		.streams = 128,
		.message_max = 4 << 20,
		.refused_ms = 5000,
		.drain_ms = 10000,
	};
}

void transport_log(struct transport *transport, int level, const char *format, ...)
{
	char line[512];
	int n = 0;
	va_list arguments;

	if (!transport->config.log)
		return;
	if (transport->config.log_levels)
		n = snprintf(line, sizeof(line), "<%d>", level & 7);
	va_start(arguments, format);
	n += vsnprintf(line + n, sizeof(line) - n, format, arguments);
	va_end(arguments);
	sink_put(transport->config.log, line, n < (int)sizeof(line) ? n : (int)sizeof(line) - 1);
}

/* ---- waking ---- */

static void wake_fired(struct cq_tag *tag, bool ok)
{
	struct transport *transport = container_of(tag, struct transport, wake_tag);

	mailbox_deliver(&transport->mailbox);
}

/* Any thread. */
static void transport_wake(void *userdata)
{
	struct transport *transport = userdata;

	grpc_call_start_batch(transport->lame_call, NULL, 0, &transport->wake_tag, NULL);
}

/* ---- what the broker asks of its host ---- */

static uint64_t host_monotonic_us(void *host)
{
	return clock_us();
}

static uint64_t host_realtime_us(void *host)
{
	return clock_read_us(CLOCK_REALTIME);
}

static void host_submit(void *host, struct broker_work *work)
{
	struct transport *transport = host;

	workers_submit(transport->workers, work);
}

/* A broker_watch has one pointer for the host: the token, which fits in 56 bits. */
static void host_watch_fired(void *userdata)
{
	struct broker_watch *watch = userdata;

	watch->host_data = NULL;
	watch->ready(watch);
}

static int host_watch(void *host, struct broker_watch *watch)
{
	struct transport *transport = host;
	uint64_t token;
	int r = watches_add(acceptor_watches(transport->acceptor), watch->fd, EPOLLIN,
			    host_watch_fired, watch, &token);

	/* Token 0 is a token, NULL is none. */
	if (r == 0)
		watch->host_data = (void *)(uintptr_t)(token + 1);
	return r;
}

static void host_unwatch(void *host, struct broker_watch *watch)
{
	struct transport *transport = host;

	if (watch->host_data)
		watches_remove(acceptor_watches(transport->acceptor),
			       (uint64_t)(uintptr_t)watch->host_data - 1);
	watch->host_data = NULL;
}

static void host_kick(void *host, void *connection)
{
	connection_kick(connection);
}

static void host_audit(void *host, const char *line, size_t length)
{
	struct transport *transport = host;

	sink_put(transport->config.audit, line, length);
}

static void host_log(void *host, int level, const char *line)
{
	transport_log(host, level, "%s", line);
}

const struct broker_host_ops *transport_host_ops(void)
{
	static const struct broker_host_ops ops = {
		.monotonic_us = host_monotonic_us,
		.realtime_us = host_realtime_us,
		.submit = host_submit,
		.watch = host_watch,
		.unwatch = host_unwatch,
		.kick = host_kick,
		.audit = host_audit,
		.log = host_log,
	};

	return &ops;
}

/* ---- fd exchanges ---- */

/* The status and, on a successful TAKE, the fd with its first byte. */
static void exchange_reply(int socket, enum fd_status status, int passed_fd)
{
	uint8_t reply[FD_PROTOCOL_REPLY_SIZE];
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec vector = {.iov_base = reply, .iov_len = sizeof(reply)};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

	fd_reply_build(status, reply);
	if (passed_fd >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &passed_fd, sizeof(int));
	}
	/* Sixteen bytes fit in an empty socket; a peer that is gone needs no answer. */
	sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void exchange_received(struct mail *mail)
{
	struct exchange *exchange = container_of(mail, struct exchange, mail);
	struct transport *transport = exchange->userdata;
	struct broker_peer peer = {
		.socket = exchange->listener->name,
		.uid = exchange->peer.uid,
		.gid = exchange->peer.gid,
		.pid = exchange->peer.pid,
	};
	int taken_fd = -1;
	int status;

	if (transport->stopping) {
		status = FD_STATUS_UNAVAILABLE;
	} else if (exchange->request.op == FD_OP_GIVE) {
		status = broker_ticket_give(transport->broker, &peer, exchange->request.ticket,
					    exchange->passed_fd);
		if (status == FD_STATUS_OK)
			exchange->passed_fd = -1;
	} else {
		status = broker_ticket_take(transport->broker, &peer, exchange->request.ticket,
					    &taken_fd);
	}
	/* Unexpected failures of the broker (-errno) have no other word on the wire. */
	if (status < 0 || status > FD_STATUS_UNAVAILABLE)
		status = FD_STATUS_UNAVAILABLE;
	exchange_reply(exchange->fd, status, taken_fd);

	if (taken_fd >= 0)
		close(taken_fd);
	if (exchange->passed_fd >= 0)
		close(exchange->passed_fd);
	close(exchange->fd);
	principal_leave_pending(transport->principals, exchange->principal, clock_us());
	free(exchange);
}

/* ---- signals and the end ---- */

static void transport_reload(struct transport *transport)
{
	char problem[1024] = "";
	char notice[96];
	int r;

	snprintf(notice, sizeof(notice), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)clock_us());
	sd_notify(0, notice);
	sink_reopen(transport->config.audit);
	r = broker_reload_policy(transport->broker, problem, sizeof(problem));
	if (r)
		transport_log(transport, LOG_ERR, "policy not reloaded, the old one stays: %s",
			      r < 0 && !problem[0] ? strerror(-r) : problem);
	else
		transport_log(transport, LOG_INFO, "policy reloaded");
	sd_notify(0, "READY=1");
}

static void transport_stop(struct transport *transport)
{
	struct list *item, *after;
	uint64_t now = clock_us();

	if (transport->stopping) {
		transport->give_up_at = now;
		return;
	}
	transport->stopping = true;
	transport->cancel_at = now + CANCEL_US;
	transport->give_up_at = now + transport->config.drain_ms * UINT64_C(1000);
	sd_notify(0, "STOPPING=1");
	transport_log(transport, LOG_INFO, "stopping, %zu connections", transport->n_connections);
	acceptor_set_listening(transport->acceptor, false);
	listeners_unlink(transport->config.listeners);
	health_stop(transport);
	broker_ending(transport->broker);
	list_for_each_safe (item, after, &transport->connections)
		connection_close(container_of(item, struct connection, link), false);
	broker_shutdown(transport->broker);
}

static void transport_signalled(void *userdata, int signal)
{
	struct transport *transport = userdata;

	if (signal != SIGHUP)
		transport_stop(transport);
	else if (!transport->stopping)
		transport_reload(transport);
}

/* On the acceptor's thread. */
static void transport_ticked(void *userdata)
{
	struct transport *transport = userdata;

	if (stall_ticked(&transport->stall))
		connections_find_staller(transport);
}

static bool transport_is_drained(struct transport *transport)
{
	return list_is_empty(&transport->connections) && !workers_pending(transport->workers) &&
	       broker_drained(transport->broker);
}

/* ---- the loop ---- */

/* Does what is due and returns when something is due next. */
static uint64_t transport_timers(struct transport *transport)
{
	uint64_t now = clock_us(), next, due;
	struct list *item;

	next = broker_next_deadline(transport->broker);
	if (next <= now) {
		broker_tick(transport->broker);
		next = broker_next_deadline(transport->broker);
	}
	due = connections_expire(transport, now);
	if (due < next)
		next = due;
	if (transport->watchdog_us) {
		if (transport->watchdog_at <= now) {
			sd_notify(0, "WATCHDOG=1");
			transport->watchdog_at = now + transport->watchdog_us / 2;
		}
		if (transport->watchdog_at < next)
			next = transport->watchdog_at;
	}
	if (!transport->stopping)
		return next;
	if (transport->cancel_at <= now) {
		transport->cancel_at = UINT64_MAX;
		list_for_each (item, &transport->connections)
			connection_close(container_of(item, struct connection, link), true);
	}
	if (transport->cancel_at < next)
		next = transport->cancel_at;
	return transport->give_up_at < next ? transport->give_up_at : next;
}

static gpr_timespec timespec_of(uint64_t us)
{
	gpr_timespec when;

	if (us == UINT64_MAX)
		return gpr_inf_future(GPR_CLOCK_MONOTONIC);
	when.tv_sec = us / 1000000;
	when.tv_nsec = us % 1000000 * 1000;
	when.clock_type = GPR_CLOCK_MONOTONIC;
	return when;
}

/* Something that does not wait for a socket: then gRPC only looks, and does not sleep. */
static bool transport_has_work(const struct transport *transport)
{
	return !list_is_empty(&transport->deferred) || !list_is_empty(&transport->arrivals) ||
	       !list_is_empty(&transport->endings) || !list_is_empty(&transport->unarmed);
}

static void transport_loop(struct transport *transport)
{
	while (!(transport->stopping &&
		 (transport_is_drained(transport) || transport->give_up_at <= clock_us()))) {
		uint64_t next = transport_timers(transport);
		grpc_event event;

		stall_round(&transport->stall);
		event = grpc_completion_queue_next(transport->cq,
						   transport_has_work(transport)
							   ? gpr_inf_past(GPR_CLOCK_MONOTONIC)
							   : timespec_of(next),
						   NULL);

		if (event.type == GRPC_OP_COMPLETE) {
			struct cq_tag *tag = event.tag;

			tag->fired(tag, event.success);
		}
		connections_step(transport);
		if (event.type == GRPC_QUEUE_TIMEOUT)
			calls_arm(transport);
		if (event.type == GRPC_OP_COMPLETE &&
		    ++transport->events_since_poll < EVENTS_BETWEEN_RESUMES)
			continue;
		transport->events_since_poll = 0;
		calls_resume(transport);
	}
}

int transport_run(struct transport *transport, struct broker *broker)
{
	const struct listeners *listeners = transport->config.listeners;
	uint64_t watchdog_us;
	int r;

	transport->broker = broker;
	if (sd_watchdog_enabled(0, &watchdog_us) > 0)
		transport->watchdog_us = watchdog_us;
	acceptor_set_listening(transport->acceptor, true);
	for (size_t i = 0; i < listeners->n; i++)
		transport_log(transport, LOG_INFO, "listening: %s = %s", listeners->list[i].name,
			      listeners->list[i].path ? listeners->list[i].path : "from systemd");
	sd_notify(0, "READY=1");
	r = stall_watch(&transport->stall);
	if (r < 0)
		transport_log(transport, LOG_WARNING,
			      "no timer: a peer that floods its connection is not noticed: %s",
			      strerror(-r));
	transport_loop(transport);
	stall_unwatch(&transport->stall);
	if (transport_is_drained(transport))
		return 0;
	transport_log(transport, LOG_ERR, "giving up: %zu connections and %zu works left",
		      transport->n_connections, workers_pending(transport->workers));
	return -ETIMEDOUT;
}

/* ---- life ---- */

static void acceptor_logs(void *userdata, int level, const char *line)
{
	transport_log(userdata, level, "%s", line);
}

static int transport_init(struct transport *transport)
{
	struct acceptor_config acceptor = {
		.listeners = transport->config.listeners,
		.mailbox = &transport->mailbox,
		.guests = transport->config.guests,
		.handshake_ms = transport->config.handshake_ms,
		.arrived = connection_arrived,
		.exchanged = exchange_received,
		.userdata = transport,
		.signalled = transport_signalled,
		.ticked = transport_ticked,
		.log = acceptor_logs,
	};
	int r;

	transport->cq = grpc_completion_queue_create_for_next(NULL);
	transport->credentials = grpc_insecure_server_credentials_create();
	transport->lame_channel =
		grpc_lame_client_channel_create("wake", GRPC_STATUS_UNAVAILABLE, "wake");
	transport->lame_call =
		grpc_channel_create_call(transport->lame_channel, NULL, GRPC_PROPAGATE_DEFAULTS,
					 transport->cq, grpc_slice_from_static_string("/wake"),
					 NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	r = principal_table_new(&transport->config.limits, &transport->principals);
	if (r < 0)
		return r;
	r = workers_new(transport->config.workers, &transport->mailbox, &transport->workers);
	if (r < 0)
		return r;
	acceptor.principals = transport->principals;
	sigemptyset(&acceptor.signals);
	sigaddset(&acceptor.signals, SIGTERM);
	sigaddset(&acceptor.signals, SIGINT);
	sigaddset(&acceptor.signals, SIGHUP);
	sigaddset(&acceptor.signals, SIGRTMIN);
	return acceptor_new(&acceptor, &transport->acceptor);
}

/*
 * A connection takes two fds, and registered memory takes fds as well: half of what there is
 * is for connections, the same for each socket and once more for what is on its way.
 */
static void limits_fit_fds(struct principal_limits *limits, size_t n_listeners)
{
	struct rlimit files;
	rlim_t share;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
		return;
	share = files.rlim_cur / 2 / 2 / (n_listeners + 1);
	if (limits->open_listener > share)
		limits->open_listener = share;
	/* No principal has more than half of a socket's. */
	if (limits->open > share / 2)
		limits->open = share / 2;
}

int transport_new(const struct transport_config *config, struct transport **ret_transport)
{
	struct transport *transport = calloc(1, sizeof(*transport));
	int r;

	if (!transport)
		return -ENOMEM;
	transport->config = *config;
	limits_fit_fds(&transport->config.limits, config->listeners->n);
	transport->wake_tag.fired = wake_fired;
	list_init(&transport->connections);
	list_init(&transport->arrivals);
	list_init(&transport->endings);
	list_init(&transport->refused);
	list_init(&transport->deferred);
	list_init(&transport->unarmed);
	r = mailbox_init(&transport->mailbox, transport_wake, transport);
	if (r < 0) {
		free(transport);
		return r;
	}
	r = transport_init(transport);
	if (r < 0) {
		transport_free(transport);
		return r;
	}
	*ret_transport = transport;
	return 0;
}

void transport_free(struct transport *transport)
{
	grpc_event event;

	if (!transport)
		return;
	acceptor_stop(transport->acceptor);
	workers_free(transport->workers);
	/* What the threads posted before they ended: arrivals are closed, exchanges refused. */
	transport->stopping = true;
	mailbox_deliver(&transport->mailbox);
	while (connections_step(transport))
		;
	acceptor_free(transport->acceptor);
	grpc_call_unref(transport->lame_call);
	grpc_channel_destroy(transport->lame_channel);
	grpc_completion_queue_shutdown(transport->cq);
	do
		event = grpc_completion_queue_next(transport->cq,
						   gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	while (event.type != GRPC_QUEUE_SHUTDOWN);
	grpc_completion_queue_destroy(transport->cq);
	grpc_server_credentials_release(transport->credentials);
	calls_trim(transport);
	principal_table_free(transport->principals);
	mailbox_deinit(&transport->mailbox);
	free(transport);
}
