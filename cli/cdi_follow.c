/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See cdi_follow.h.  Three things are followed: the devices that the broker lets the tenant
 * have, whether they are free, and the nodes that VFIO made of them.  Events of the broker and
 * of /dev say only that it is time to look; a look asks for all of it and writes what differs.
 * Not everything has an event (a tenant is not told that the policy was reloaded), so there is
 * a look from time to time as well.
 *
 * A node is named while its device is free, for then it is the operator who bound the driver. While
 * somebody has the device, it may be the keeper, for as long as the claim, and the number is the
 * next device's afterwards: then only what the file says already stays, as long as it is true.
 *
 * Without a broker the file stays, but for nodes that are gone.  What the broker refuses to tell
 * is no device.  Events, even thousands a second, come to one look each GAP_MS.
 *
 * Threads: one; calls have a short deadline, as SIGTERM waits for them.
 */
#include "cdi_follow.h"

#include "cdi_file.h"
#include "cdi_node.h"
#include "notify.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define CALL_MS	     5000
#define GAP_MS	     200
#define RETRY_MS     250
#define RETRY_MAX_MS 15000
#define REWATCH_MS   60000
/* The watch may be slower than the list that was asked for after it. */
#define SECOND_MS 1000

SESSION_CLEANUP(ioasid_devices, ioasid_devices_free)
SESSION_CLEANUP(ioasid_server_status, ioasid_server_status_free)
SESSION_CLEANUP(ioasid_event, ioasid_event_free)

struct follow {
	struct cli *cli;
	const struct cdi_request *request;
	char *tenant;
	struct cdi_file file;
	struct json_object *spec;	/* what the file says; NULL: it is not there */
	struct ioasid_devices *devices; /* NULL: not told yet, or none */
	bool told;			/* a broker has told of devices */

	struct ioasid_client *client;
	struct ioasid_watch *watch;
	struct cdi_node_watch nodes;
	bool nodes_moved;
	bool ready;
	uint64_t last, due, retry_ms, rewatch;
	char *trouble; /* the message that was printed last; NULL: all is well */
	bool away;     /* it was that there is no broker */
	char *status;  /* that systemd was told last */
};

static void follow_deinit(struct follow *f)
{
	ioasid_watch_close(f->watch);
	ioasid_client_unref(f->client);
	ioasid_devices_free(f->devices);
	json_object_put(f->spec);
	cdi_node_watch_deinit(&f->nodes);
	cdi_file_deinit(&f->file);
	free(f->tenant);
	free(f->trouble);
	free(f->status);
}
#define _cleanup_follow_ __attribute__((cleanup(follow_deinit)))

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- from devices to a file ---- */

static bool is_wanted(const struct cdi_request *request, const char *address)
{
	for (size_t i = 0; i < request->n_wanted; i++)
		if (!strcasecmp(request->wanted[i], address))
			return true;
	return !request->n_wanted;
}

/* Fresh: the state is of now. */
static char *node_of(const struct follow *f, const struct ioasid_device *device, bool fresh)
{
	char *node = cdi_node_find(f->request->sysfs, f->request->dev, device->address);
	const char *before;

	if (!node || (fresh && device->state == IOASID_DEVICE_FREE))
		return node;
	before = f->spec ? cdi_node_in(f->spec, f->tenant, device->address) : NULL;
	if (before && !strcmp(before, node))
		return node;
	free(node);
	return NULL;
}

/* Makes the file say what is so.  An exit code. */
static int publish(struct follow *f, bool fresh, bool *ret_changed)
{
	size_t n = 0, all = f->devices ? f->devices->n : 0;
	_cleanup_free_ struct cdi_device *chosen = cli_alloc(all * sizeof(*chosen));
	struct cdi_maker maker = f->request->maker;
	struct json_object *spec = NULL;
	int r;

	maker.tenant = f->tenant;
	for (size_t i = 0; i < all; i++) {
		const struct ioasid_device *device = f->devices->items[i];

		if (is_wanted(f->request, device->address))
			chosen[n++] =
				(struct cdi_device){device->address, node_of(f, device, fresh)};
	}
	if (n) {
		spec = cdi_spec(&maker, chosen, n);
		r = cdi_file_write(f->cli, &f->file, spec, ret_changed);
	} else {
		/* Engines refuse a file without a name. */
		r = cdi_file_remove(f->cli, &f->file, ret_changed);
	}
	for (size_t i = 0; i < n; i++)
		free(chosen[i].node);
	if (r) {
		json_object_put(spec);
		return r;
	}
	json_object_put(f->spec);
	f->spec = spec;
	return CLI_OK;
}

static size_t count(const struct follow *f)
{
	return f->spec ? json_object_array_length(doc_get(f->spec, "devices")) : 0;
}

static struct json_object *answer(const struct follow *f)
{
	struct json_object *document = doc_new("cdi-generate"), *list = doc_array();

	doc_put_text(document, "file", f->file.path);
	for (size_t i = 0; i < count(f); i++) {
		struct json_object *device =
			json_object_array_get_idx(doc_get(f->spec, "devices"), i);
		_cleanup_free_ char *full =
			cli_printf(CDI_KIND "=%s", doc_get_text(device, "name"));
		struct json_object *o = doc_object();
		const char *tenant, *address;

		if (!cdi_device_of(device, &tenant, &address))
			address = NULL;
		doc_put_text(o, "name", full);
		doc_put_text(o, "device", address);
		doc_put(list, NULL, o);
	}
	doc_put(document, "devices", list);
	return document;
}

/* ---- once ---- */

/* A device that was named and is not there, or nothing at all, is a failure. */
static int check_wanted(struct follow *f)
{
	const struct cdi_request *request = f->request;

	for (size_t i = 0; i < request->n_wanted; i++) {
		size_t j = 0;

		while (j < f->devices->n &&
		       strcasecmp(f->devices->items[j]->address, request->wanted[i]))
			j++;
		if (j == f->devices->n)
			return cli_fail(f->cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL",
					"device %s: the tenant may not have it, or it is not there",
					request->wanted[i]);
	}
	return f->devices->n ? CLI_OK
			     : cli_fail(f->cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL",
					"there is no device that the tenant may have");
}

/* The tenant that the names are for: --tenant, or the one that the caller is. */
static int find_tenant(struct follow *f, struct ioasid_client *client, struct ioasid_scope *scope,
		       struct ioasid_error **ret_error)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *status = NULL;
	const char *tenant = f->request->maker.tenant;

	if (!tenant) {
		if (ioasid_server_status(client, scope, &status, ret_error) < 0)
			return session_fail(f->cli, *ret_error);
		if (strcmp(status->role, "tenant"))
			return cli_usage(f->cli,
					 "--tenant: expected the tenant that the names are for");
		tenant = status->tenant;
	}
	if (!f->tenant) {
		_cleanup_free_ char *name = cdi_file_name(tenant);

		f->tenant = cli_strdup(tenant);
		return cdi_file_init(f->cli, f->request->dir, name, &f->file);
	}
	if (!strcmp(f->tenant, tenant))
		return CLI_OK;
	return cli_fail(f->cli, CLI_FAILED, "FAILED_PRECONDITION", "LOCAL",
			"the policy has made the caller %s, who was %s", tenant, f->tenant);
}

int cdi_generate_once(struct cli *cli, const struct cdi_request *request)
{
	_cleanup_follow_ struct follow f = {
		.cli = cli,
		.request = request,
		.file = CDI_FILE_NONE,
		.nodes = {.fd = -1},
	};
	_cleanup_call_ struct session_call c = {};
	bool changed;
	int r = session_begin(cli, &c);

	if (!r)
		r = find_tenant(&f, c.client, &c.scope, &c.error);
	if (r)
		return r;
	if (ioasid_device_list(c.client, &c.scope, false, &f.devices, &c.error) < 0)
		return session_fail(cli, c.error);
	r = check_wanted(&f);
	if (!r)
		r = cdi_file_lock(cli, &f.file);
	if (r)
		return r;
	f.spec = cdi_file_read(f.file.path);
	r = publish(&f, true, &changed);
	return r ?: cli_show(cli, answer(&f));
}

/* ---- what is said of it ---- */

/* To systemd, if it is another one.  Takes over the status. */
static void say_status(struct follow *f, const char *before, char *status)
{
	if (*before || !f->status || strcmp(f->status, status))
		notify_send("%sSTATUS=%s", before, status);
	free(f->status);
	f->status = status;
}

/*
 * Prints the stored failure unless it is the one that was printed last, and goes on.  A broker
 * that is away, which it says in several ways while it is restarted, is one failure.
 */
static void say_trouble(struct follow *f, bool away)
{
	const char *message = doc_get_text(f->cli->error, "message") ?: "";

	if (!f->trouble || (strcmp(f->trouble, message) && !(away && f->away))) {
		cli_error_print(f->cli);
		fflush(f->cli->err);
		free(f->trouble);
		f->trouble = cli_strdup(message);
	}
	f->away = away;
	say_status(f, "",
		   cli_printf("%s: %s%s", f->tenant ?: f->request->maker.tenant ?: "",
			      !f->ready ? ""
			      : f->spec ? "the file stays as it is: "
					: "there is no file: ",
			      message));
	cli_error_clear(f->cli);
}

static void say_well(struct follow *f)
{
	free(f->trouble);
	f->trouble = NULL;
	say_status(f, f->ready ? "" : "READY=1\n",
		   cli_printf("%s: %zu devices%s%s", f->tenant, count(f),
			      f->spec ? " in " : ", and no ", f->file.path));
	f->ready = true;
}

static int say_change(struct follow *f)
{
	struct json_object *document = answer(f);

	doc_put_text(document, "state", f->spec ? "written" : "removed");
	doc_put_u64(document, "count", count(f));
	return cli_show_event(f->cli, document);
}

/* ---- the broker ---- */

static void disconnect(struct follow *f)
{
	f->watch = ioasid_watch_close(f->watch);
	f->client = ioasid_client_unref(f->client);
}

static struct ioasid_scope scope_of(const struct follow *f)
{
	struct ioasid_scope scope = session_scope(f->cli);

	if (!scope.timeout_ms || scope.timeout_ms > CALL_MS)
		scope.timeout_ms = CALL_MS;
	return scope;
}

/* A stored failure that time may mend, whoever is asked. */
static bool passes(const struct ioasid_error *error)
{
	return ioasid_error_is_no_server(error) || ioasid_error_is_retryable(error) ||
	       ioasid_error_is_quota(error) || error->origin == IOASID_ORIGIN_CONNECTION ||
	       error->error == -ETIMEDOUT;
}

static int watch(struct follow *f, struct ioasid_error **ret_error)
{
	static const enum ioasid_event_type types[] = {
		IOASID_EVENT_DEVICE_CLAIMED,  IOASID_EVENT_DEVICE_RELEASED,
		IOASID_EVENT_DEVICE_REMOVED,  IOASID_EVENT_LEASE_REVOKED,
		IOASID_EVENT_POLICY_RELOADED, IOASID_EVENT_TENANT_DRAINED,
	};
	const struct ioasid_event_filter filter = {
		.n_types = sizeof(types) / sizeof(types[0]),
		.types = types,
	};
	struct ioasid_scope scope = scope_of(f);

	scope.timeout_ms = IOASID_NO_TIMEOUT;
	return ioasid_watch_events(f->client, &scope, &filter, &f->watch, ret_error);
}

static int connect_broker(struct follow *f, struct ioasid_error **ret_error)
{
	const struct ioasid_options options = {
		.timeout_ms = CALL_MS,
		.connect_timeout_ms = CALL_MS,
		.reconnect_ms = IOASID_NO_RECONNECT,
	};
	struct ioasid_scope scope = scope_of(f);
	int r;

	if (ioasid_connect(f->cli->socket, &options, &f->client, ret_error) < 0)
		return session_fail(f->cli, *ret_error);
	r = find_tenant(f, f->client, &scope, ret_error);
	/* Before the first list, so that no change falls in between. */
	if (!r && watch(f, ret_error) < 0)
		r = session_fail(f->cli, *ret_error);
	if (!r)
		f->rewatch = now_ms() + SECOND_MS;
	return r;
}

/* Asks for the devices.  An exit code; *ret_error, if it was the library that failed. */
static int ask(struct follow *f, struct ioasid_error **ret_error)
{
	struct ioasid_scope scope = scope_of(f);
	struct ioasid_devices *devices;
	int r = f->client ? CLI_OK : connect_broker(f, ret_error);

	if (r)
		return r;
	if (!f->watch && f->devices && f->devices->n && now_ms() >= f->rewatch &&
	    watch(f, ret_error) < 0)
		return session_fail(f->cli, *ret_error);
	if (ioasid_device_list(f->client, &scope, false, &devices, ret_error) < 0)
		return session_fail(f->cli, *ret_error);
	ioasid_devices_free(f->devices);
	f->devices = devices;
	f->told = true;
	/* To the broker a tenant that the policy has dropped is there while somebody watches it. */
	if (!devices->n)
		f->watch = ioasid_watch_close(f->watch);
	return CLI_OK;
}

/* Whether an event came.  A watch that the broker ended for a reason is done without for a while.
 */
static bool take_events(struct follow *f)
{
	_cleanup_error_ struct ioasid_error *error = NULL;
	bool found = false;

	for (;;) {
		_cleanup_with_(ioasid_event_free) struct ioasid_event *event = NULL;
		int r = ioasid_watch_next_event(f->watch, 0, &event, &error);

		if (r == -EAGAIN)
			return found;
		found = true;
		if (r >= 0)
			continue;
		/* A broker that stops ends its streams, too; that is the next look's. */
		if (!ioasid_error_is_quota(error) && !ioasid_error_is_denied(error)) {
			disconnect(f);
			return true;
		}
		session_fail(f->cli, error);
		say_trouble(f, false);
		f->watch = ioasid_watch_close(f->watch);
		f->rewatch = now_ms() + REWATCH_MS;
		return true;
	}
}

/* ---- a look ---- */

/* An exit code: what ends it all. */
static int settle(struct follow *f, bool fresh)
{
	bool changed;
	int r = publish(f, fresh, &changed);

	if (r)
		return r;
	return changed ? say_change(f) : CLI_OK;
}

/* A file that cannot be written now may be later; a terminal that is gone is gone. */
static int try_again(struct follow *f, int r)
{
	if (!f->ready || ferror(f->cli->out))
		return r;
	say_trouble(f, false);
	f->due = now_ms() + f->retry_ms;
	f->retry_ms = earlier(2 * f->retry_ms, RETRY_MAX_MS);
	return CLI_OK;
}

/* The broker did not tell.  An exit code: whether that ends it all. */
static int not_told(struct follow *f, const struct ioasid_error *error, int r)
{
	/* Of the tenant, or the command line: no time mends that. */
	if (!error || (!f->ready && !passes(error)))
		return r;
	disconnect(f);
	if (f->ready && error->origin == IOASID_ORIGIN_BROKER &&
	    (ioasid_error_is_denied(error) || ioasid_error_is_not_found(error))) {
		cli_error_clear(f->cli);
		ioasid_devices_free(f->devices);
		f->devices = NULL;
		r = settle(f, false);
		if (r)
			return try_again(f, r);
		session_fail(f->cli, error);
	}
	say_trouble(f, passes(error) && !ioasid_error_is_quota(error));
	f->due = now_ms() + f->retry_ms;
	f->retry_ms = earlier(2 * f->retry_ms, RETRY_MAX_MS);
	return CLI_OK;
}

static int look(struct follow *f)
{
	_cleanup_error_ struct ioasid_error *error = NULL;
	int r;

	cdi_node_watch_renew(&f->nodes);
	/* A node that is gone is taken out before a broker is waited for. */
	if (f->told && f->nodes_moved) {
		r = settle(f, false);
		if (r)
			return try_again(f, r);
	}
	f->nodes_moved = false;
	r = ask(f, &error);
	f->last = now_ms();
	if (r)
		return not_told(f, error, r);
	if (!f->ready) {
		r = cdi_file_lock(f->cli, &f->file);
		if (r)
			return r;
		f->spec = cdi_file_read(f->file.path);
	}
	r = settle(f, true);
	if (r)
		return try_again(f, r);
	say_well(f);
	f->retry_ms = RETRY_MS;
	f->due = f->last + f->request->interval_ms;
	if (f->watch && f->rewatch > f->last)
		f->due = earlier(f->due, f->rewatch);
	return CLI_OK;
}

static int loop(struct follow *f, int signals)
{
	for (;;) {
		struct pollfd polled[] = {
			{.fd = signals, .events = POLLIN},
			{.fd = f->nodes.fd, .events = POLLIN},
			{.fd = f->watch ? ioasid_watch_fd(f->watch) : -1, .events = POLLIN},
		};
		uint64_t now = now_ms(), wait = f->due > now ? f->due - now : 0;
		bool soon = false;
		int r;

		if (poll(polled, 3, (int)earlier(wait, INT_MAX)) < 0 && errno != EINTR)
			return cli_errno(f->cli, errno, "poll");
		if (polled[0].revents)
			return CLI_OK;
		if (polled[1].revents && cdi_node_watch_drain(&f->nodes))
			soon = f->nodes_moved = true;
		if (polled[2].revents && take_events(f))
			soon = true;
		if (soon)
			f->due = earlier(f->due, f->last + GAP_MS);
		if (now_ms() < f->due)
			continue;
		r = look(f);
		if (r)
			return r;
	}
}

/* A shell goes on, and a signal that has ended this is not to end that, too. */
static void signals_restore(struct cli *cli, int signals, const sigset_t *before)
{
	struct signalfd_siginfo info;

	if (!cli->in_shell)
		return;
	while (read(signals, &info, sizeof(info)) > 0)
		;
	sigprocmask(SIG_SETMASK, before, NULL);
}

int cdi_generate_follow(struct cli *cli, const struct cdi_request *request)
{
	struct follow f = {
		.cli = cli,
		.request = request,
		.file = CDI_FILE_NONE,
		.retry_ms = RETRY_MS,
	};
	sigset_t ends, before;
	int signals, r;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	/* Before the library's threads are, and until all is put away: a second one does no harm.
	 */
	sigprocmask(SIG_BLOCK, &ends, &before);
	signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	cdi_node_watch_init(&f.nodes, request->dev);
	r = signals < 0 ? cli_errno(cli, errno, "signalfd") : loop(&f, signals);
	notify_send("STOPPING=1");
	follow_deinit(&f);
	signals_restore(cli, signals, &before);
	if (signals >= 0)
		close(signals);
	return r;
}
