/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec: a program with a lease of its own, its devices claimed, which ends with it.
 *
 * The order is what makes it safe to be killed at any point:
 *
 *	the child is forked	it waits; if this process dies, it exits
 *	the lease is opened	kept for the child's life by its pidfd, so nothing is left of it
 *				whoever dies, and in whichever order
 *	devices are claimed	a refusal: the child is ended, the lease closed
 *	the connection ends	the program can adopt the lease, which has one holder at a time
 *	the program runs	there is no connection; a restart of the broker is not our concern
 *	the program has ended	the lease is taken back and closed, and its end awaited: when exec
 *				returns, nothing is charged for it
 *
 * The secret is in a sealed memfd that the program inherits, and in this process until it has
 * closed the lease.  A program that the child leaves behind loses the lease like any holder.
 *
 * With --delegate the program gets the lease's own IOMMU context by number as well, for a VMM that
 * drives it by itself (docs/delegate.md).
 *
 * Never here: what the program does with its lease.
 */
#include "args.h"
#include "doc.h"
#include "exec_child.h"
#include "families.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

SESSION_CLEANUP(ioasid_server_status, ioasid_server_status_free)
SESSION_CLEANUP(ioasid_devices, ioasid_devices_free)
SESSION_CLEANUP(ioasid_leases, ioasid_leases_free)

/* How long the end of the lease is waited for, once its process has ended. */
#define END_SECONDS   10
#define END_PAUSE_MS  5
#define END_PAUSE_MAX 100

struct exec {
	struct exec_child child;
	char *tenant;
	char name[IOASID_LEASE_NAME_SIZE];
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	bool is_open;
	int lease_fd;
	int context_fd; /* -1: not delegated */
	size_t n_devices;
	char **devices;
	size_t n_fds;
	const char **fd_devices;
	int *fds;
};

/* What the program has, this process needs no longer: a device that is open is not free. */
static void gifts_close(struct exec *e)
{
	for (size_t i = 0; i < e->n_fds; i++)
		close(e->fds[i]);
	e->n_fds = 0;
	if (e->context_fd >= 0)
		close(e->context_fd);
	e->context_fd = -1;
	if (e->lease_fd >= 0)
		close(e->lease_fd);
	e->lease_fd = -1;
}

static void exec_deinit(struct exec *e)
{
	gifts_close(e);
	exec_child_end(&e->child);
	for (size_t i = 0; i < e->n_devices; i++)
		free(e->devices[i]);
	free(e->devices);
	free(e->fd_devices);
	free(e->fds);
	free(e->tenant);
	explicit_bzero(e->secret, sizeof(e->secret));
}

/* ---- before ---- */

/* A path that is good in any working directory; free().  NULL is the library's, and stays so. */
static char *absolute(const char *path)
{
	_cleanup_free_ char *folder = NULL;

	if (!path)
		return NULL;
	if (*path == '/' || *path == '@')
		return cli_strdup(path);
	folder = getcwd(NULL, 0);
	return folder ? cli_printf("%s/%s", folder, path) : cli_strdup(path);
}

static int make_name(struct cli *cli, struct exec *e)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return cli_errno(cli, errno, "cannot make the name of a lease");
	snprintf(e->name, sizeof(e->name), "exec-%d-%016llx", e->child.pid,
		 (unsigned long long)random);
	return CLI_OK;
}

static int open_lease(struct cli *cli, const struct cli_args *args, struct session_call *c,
		      struct exec *e)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *status = NULL;
	struct ioasid_lease_options options = IOASID_LEASE_OPTIONS_INIT;
	int r = make_name(cli, e);

	if (r)
		return r;
	if (ioasid_server_status(c->client, &c->scope, &status, &c->error) < 0)
		return session_fail(cli, c->error);
	e->tenant = cli_strdup(*c->scope.tenant ? c->scope.tenant : status->tenant);
	options.pidfd = e->child.pidfd;
	options.keep = true;
	options.handover = !strcmp(status->role, "agent");
	options.delegate = args_has(args, "delegate");
	options.max_ioasids = args_number(args, "ioasids", options.delegate ? 1 : UINT64_MAX);
	options.max_registered_bytes = args_number(args, "memory", UINT64_MAX);
	if (ioasid_lease_open_with(c->client, &c->scope, e->name, &options, e->secret, &c->error) <
	    0)
		return session_fail(cli, c->error);
	e->is_open = true;
	return CLI_OK;
}

/* As the broker spells them. */
static int claim(struct cli *cli, const struct cli_args *args, struct session_call *c,
		 struct exec *e)
{
	_cleanup_with_(ioasid_devices_free) struct ioasid_devices *devices = NULL;
	size_t n;
	_cleanup_free_ char **names = args_texts(args, "device", &n);

	if (!n)
		return CLI_OK;
	if (ioasid_claim(c->client, &c->scope, (const char *const *)names, n, &devices, &c->error) <
	    0)
		return session_fail(cli, c->error);
	e->devices = cli_alloc(devices->n * sizeof(*e->devices));
	for (size_t i = 0; i < devices->n; i++)
		e->devices[e->n_devices++] = cli_strdup(devices->items[i]->address);
	return CLI_OK;
}

/* A simulated device has none, which is no failure. */
static int take_fds(struct cli *cli, struct session_call *c, struct exec *e)
{
	e->fds = cli_alloc((e->n_devices + 1) * sizeof(*e->fds));
	e->fd_devices = cli_alloc((e->n_devices + 1) * sizeof(*e->fd_devices));
	for (size_t i = 0; i < e->n_devices; i++) {
		_cleanup_error_ struct ioasid_error *error = NULL;
		int fd;

		if (ioasid_device_fd(c->client, &c->scope, e->devices[i], &fd, &error) < 0) {
			if (error->code != IOASID_UNIMPLEMENTED)
				return session_fail(cli, error);
			continue;
		}
		e->fd_devices[e->n_fds] = e->devices[i];
		e->fds[e->n_fds++] = fd;
	}
	return CLI_OK;
}

static int take_context(struct cli *cli, const struct cli_args *args, struct session_call *c,
			struct exec *e)
{
	if (!args_has(args, "delegate"))
		return CLI_OK;
	if (ioasid_context_fd(c->client, &c->scope, &e->context_fd, &c->error) < 0)
		return session_fail(cli, c->error);
	return CLI_OK;
}

static char *lease_text(const struct exec *e)
{
	struct json_object *document = doc_object(), *list = doc_array();
	char *text;

	doc_put_u64(document, "version", 1);
	doc_put_text(document, "tenant", e->tenant);
	doc_put_text(document, "lease", e->name);
	doc_put_bytes(document, "secret", e->secret, sizeof(e->secret));
	for (size_t i = 0; i < e->n_devices; i++)
		doc_put(list, NULL, json_object_new_string(e->devices[i]));
	doc_put(document, "devices", list);
	text = cli_printf(
		"%s\n", json_object_to_json_string_ext(
				document, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(document);
	return text;
}

static int write_lease(struct cli *cli, struct exec *e)
{
	_cleanup_free_ char *text = lease_text(e);
	size_t length = strlen(text);
	int r = 0;

	e->lease_fd = memfd_create("ioasid-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (e->lease_fd < 0)
		r = errno;
	else if (write(e->lease_fd, text, length) != (ssize_t)length ||
		 fcntl(e->lease_fd, F_ADD_SEALS,
		       F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ||
		 lseek(e->lease_fd, 0, SEEK_SET) < 0)
		r = errno ?: EIO;
	explicit_bzero(text, length);
	return r ? cli_errno(cli, r, "cannot write the lease file") : CLI_OK;
}

static int prepare(struct cli *cli, const struct cli_args *args, struct exec *e)
{
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	c.scope.key = NULL;
	c.scope.flags = IOASID_SCOPE_RETRY;
	r = open_lease(cli, args, &c, e);
	c.scope.lease = e->name;
	if (!r)
		r = claim(cli, args, &c, e);
	if (!r)
		r = take_context(cli, args, &c, e);
	if (!r)
		r = take_fds(cli, &c, e);
	return r ?: write_lease(cli, e);
}

/* ---- after ---- */

static bool is_listed(const struct ioasid_leases *leases, const char *name)
{
	for (size_t i = 0; i < leases->n; i++)
		if (!strcmp(leases->items[i]->name, name))
			return true;
	return false;
}

/* True: it is gone.  Else an error, or NULL: it is there still. */
static bool end_lease(struct session_call *c, const struct exec *e, struct ioasid_error **ret_error)
{
	_cleanup_with_(ioasid_leases_free) struct ioasid_leases *leases = NULL;
	struct ioasid_scope scope = c->scope;
	struct ioasid_error *error = NULL;

	scope.lease = "";
	if (!ioasid_lease_adopt(c->client, &scope, e->name, e->secret, &error)) {
		scope.lease = e->name;
		if (!ioasid_lease_close(c->client, &scope, &error))
			return true;
	}
	/* The pidfd was faster; what is being closed is still charged. */
	if (ioasid_error_is_not_found(error)) {
		ioasid_error_free(error);
		error = NULL;
		scope.lease = "";
		if (!ioasid_lease_list(c->client, &scope, &leases, &error))
			return !is_listed(leases, e->name);
	}
	/* Somebody that the program left behind holds it, for the moment. */
	if (!strcmp(error->reason, "WRONG_STATE") || !strcmp(error->reason, "BUSY")) {
		ioasid_error_free(error);
		error = NULL;
	}
	*ret_error = error;
	return false;
}

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void await_end(struct session_call *c, const struct exec *e)
{
	time_t until = seconds() + END_SECONDS;
	long pause_ms = END_PAUSE_MS;

	while (!end_lease(c, e, &c->error) && !c->error && seconds() < until) {
		const struct timespec pause = {.tv_nsec = pause_ms * 1000000};

		nanosleep(&pause, NULL);
		pause_ms = pause_ms * 2 < END_PAUSE_MAX ? pause_ms * 2 : END_PAUSE_MAX;
	}
}

/* The status of exec is the program's, or why it did not start: this only warns. */
static void finish(struct cli *cli, struct exec *e)
{
	_cleanup_call_ struct session_call c = {};
	struct json_object *before = cli->error;
	enum cli_exit before_exit = cli->error_exit;

	if (!e->is_open)
		return;
	cli->error = NULL;
	if (!session_begin(cli, &c)) {
		c.scope.key = NULL;
		c.scope.flags = IOASID_SCOPE_RETRY;
		await_end(&c, e);
		if (c.error)
			session_fail(cli, c.error);
	}
	if (cli->error)
		fprintf(cli->err,
			"ioasidctl: exec: lease %s: its end was not seen (%s); the broker ends it, "
			"as "
			"its process has ended\n",
			e->name, json_object_get_string(doc_get(cli->error, "message")));
	cli_error_clear(cli);
	cli->error = before;
	cli->error_exit = before_exit;
}

/* ---- exec ---- */

static int cannot_run(struct cli *cli, const char *program, int error)
{
	bool missing = error == ENOENT;

	return cli_fail(cli, missing ? CLI_NO_PROGRAM : CLI_CANNOT_RUN, "UNKNOWN", "LOCAL",
			"cannot run %s: %s", program, strerror(error));
}

static int run(struct cli *cli, struct exec *e, const char *program)
{
	const struct exec_gifts gifts = {
		.lease_fd = e->lease_fd,
		.context_fd = e->context_fd,
		.n_fds = e->n_fds,
		.devices = e->fd_devices,
		.fds = e->fds,
	};
	int r;

	/* The lease is the program's to hold. */
	session_close(cli);
	r = exec_child_run(&e->child, &gifts);
	gifts_close(e);
	if (r > 0)
		return cannot_run(cli, program, r);
	if (r < 0)
		return cli_errno(cli, r, "cannot start %s", program);
	return exec_child_wait(&e->child);
}

static int exec(struct cli *cli, const struct cli_args *args)
{
	__attribute__((cleanup(exec_deinit))) struct exec e = {
		.child = EXEC_CHILD_INIT,
		.lease_fd = -1,
		.context_fd = -1,
	};
	size_t n;
	_cleanup_free_ char **words = args_texts(args, "PROGRAM", &n);
	_cleanup_free_ char **argv = cli_alloc((n + 1) * sizeof(*argv));
	_cleanup_free_ char *socket = absolute(args_text(args, "socket-for-child", cli->socket));
	int r;

	memcpy(argv, words, n * sizeof(*argv));
	if (args_count(args, "device") > EXEC_DEVICES_MAX)
		return cli_usage(cli, "--device: at most %d", EXEC_DEVICES_MAX);
	if (args_has(args, "delegate") && !args_has(args, "memory"))
		return cli_usage(cli, "--delegate: expected --memory, which is charged in full");
	r = cli_flush(cli);
	if (r)
		return r;
	r = exec_child_fork(cli, argv, socket, &e.child);
	if (r < 0)
		return cli_errno(cli, r, "cannot make a process for %s", argv[0]);
	r = prepare(cli, args, &e);
	if (!r)
		r = run(cli, &e, argv[0]);
	gifts_close(&e);
	exec_child_end(&e.child);
	finish(cli, &e);
	return r;
}

static const struct cli_param exec_args[] = {
	{"PROGRAM", CLI_ARGUMENT, CLI_REQUIRED | CLI_REPEATED,
	 .help = "program and its arguments, after --"},
	{},
};
static const struct cli_param options[] = {
	{"device", CLI_DEVICE, CLI_REPEATED, .help = "claim this device for it, all or none"},
	{"memory", CLI_SIZE, .value = "SIZE", .help = "how much memory it may register", .min = 1},
	{"ioasids", CLI_UINT, .value = "N", .help = "how many IOASIDs it may have"},
	{"delegate", CLI_FLAG,
	 .help = "it gets the lease's IOMMU context itself; limits are charged in full"},
	{"socket-for-child", CLI_FILE, .help = "the program's socket, if it is another one"},
	{},
};

const struct cli_command cmd_exec = {
	.noun = "exec",
	.flags = CLI_NO_LEASE | CLI_NO_SHELL,
	.roles = "tenant, agent",
	.summary = "run a program in a lease of its own, which ends with it",
	.help = "The program finds the lease by $IOASID_SOCKET and $IOASID_LEASE_FILE, and fds of "
		"its devices by $IOASID_DEVICE_FDS; libioasid and ioasidctl take them up.  With "
		"--delegate, for an unmodified VMM, $IOASID_CONTEXT_FD is an iommufd.  Signals "
		"are relayed, and the exit status is the program's, 128 and the signal that ended "
		"it, "
		"127 if it was not found and 126 if it could not be run.  An agent names the "
		"tenant, and with --socket-for-child the socket on which the program is that "
		"tenant.",
	.example = "ioasidctl exec --device 0000:3b:00.0 --memory 2G -- ./dpdk-app -l 0-3",
	.args = exec_args,
	.options = options,
	.run = exec,
};
