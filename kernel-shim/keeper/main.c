/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioasid-keeper: joins options, vault and server into a process.
 *
 * It ends on SIGTERM or SIGINT in order: no new connections, the requests under way to their
 * end, then it says in the log which devices stay with vfio-pci.  These, and the contexts, go
 * on: systemd keeps the fds, and the state file the drivers that the devices had.  Without
 * the fd store the contexts are lost with the process, and the next start gives the devices
 * back as soon as nobody has them open.
 */
#include "log.h"
#include "options.h"
#include "server.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

/* Beside what is held: each connection with the copies of its reply, and the process's own. */
#define FDS_BESIDE (SERVER_CONNECTIONS_MAX * (KEEPER_DEVICES_MAX + 2) + 128)

struct process {
	struct options options;
	struct host host;
	struct vault *vault;
	int listener;
	int stop;
	struct backup_fd *stored;
	size_t n_stored;
};

static int fail(const char *what, int r)
{
	keeper_log(LOG_ERR, "%s: %s", what, strerror(-r));
	return r;
}

/* Everything the limits allow must find room, or the limits are a lie. */
static int raise_fd_limit(const struct charge_limits *limits)
{
	rlim_t need = FDS_BESIDE, allowed;
	struct rlimit files;

	for (size_t i = 0; i < _CHARGE_KINDS; i++)
		need += limits->total[i];
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return fail("RLIMIT_NOFILE", -errno);
	allowed = files.rlim_max;
	/* Beyond the hard limit only a root with all its capabilities may go. */
	if (files.rlim_max < need)
		files.rlim_max = need;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) == 0)
		return 0;
	if (errno != EPERM)
		return fail("RLIMIT_NOFILE", -errno);
	keeper_log(LOG_ERR, "the limits need %ju open files, and only %ju are allowed",
		   (uintmax_t)need, (uintmax_t)allowed);
	return -EMFILE;
}

static int block_signals(int *ret_fd)
{
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (fd < 0)
		return fail("signalfd", -errno);
	*ret_fd = fd;
	return 0;
}

/* What systemd passes: the socket, and what the last keeper put into the fd store. */
static int adopt_one(struct process *process, int fd, const char *name)
{
	struct backup_fd *stored = &process->stored[process->n_stored];

	if (!strncmp(name, "ctx.", 4) || !strncmp(name, "dev.", 4)) {
		stored->fd = fd;
		snprintf(stored->name, sizeof(stored->name), "%s", name);
		process->n_stored++;
		return 0;
	}
	if (process->listener >= 0 || sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0) {
		keeper_log(LOG_ERR,
			   "systemd passed '%s', which is not one listening seqpacket "
			   "socket",
			   name);
		return -EINVAL;
	}
	process->listener = fd;
	return 0;
}

static int adopt_all(struct process *process)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), r = 0;

	if (n < 0)
		return fail("LISTEN_FDS", n);
	process->stored = calloc(n ? n : 1, sizeof(*process->stored));
	if (!process->stored)
		r = -ENOMEM;
	for (int i = 0; i < n; i++) {
		if (!r)
			r = adopt_one(process, SD_LISTEN_FDS_START + i, names ? names[i] : "");
		if (names)
			free(names[i]);
	}
	free(names);
	return r;
}

/* Only the client's user can connect, from the first moment on. */
static int bind_socket(const char *path, uid_t client, int *ret_fd)
{
	__attribute__((cleanup(close_fd))) int fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return fail(path, -ENAMETOOLONG);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail("socket", -errno);
	/* A socket on which nobody listens is what a keeper left that was killed. */
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED)
		unlink(path);
	mask = umask(0777);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return fail(path, r);
	if (lchown(path, client, (gid_t)-1) < 0 || listen(fd, SERVER_CONNECTIONS_MAX) < 0 ||
	    chmod(path, 0600) < 0) {
		r = -errno;
		unlink(path);
		return fail(path, r);
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

static int start_vault(struct process *process)
{
	const struct options *options = &process->options;
	struct vault_config config = {
		.host = &process->host,
		.limits = options->limits,
		.backup = {.state_path = options->state,
			   .fd_store = options->fd_store && getenv("NOTIFY_SOCKET")},
	};
	int r = vault_new(&config, &process->vault);

	if (r < 0)
		return fail("vault", r);
	r = vault_restore(process->vault, process->stored, process->n_stored);
	if (r)
		return fail(options->state, r < 0 ? r : -EBADMSG);
	/* What was given back, and had not gone back when the last keeper ended. */
	vault_settle(process->vault, 0);
	return 0;
}

static int serve(struct process *process)
{
	const struct options *options = &process->options;
	struct server_config config = {.host = &process->host, .client = options->client};
	const char *path = NULL;
	int r = raise_fd_limit(&options->limits);

	if (!r)
		r = block_signals(&process->stop);
	if (!r)
		r = adopt_all(process);
	if (!r)
		r = start_vault(process);
	if (!r && process->listener < 0) {
		path = options->listen ? options->listen : OPTIONS_SOCKET;
		r = bind_socket(path, options->client, &process->listener);
	}
	if (r)
		return r;
	config.vault = process->vault;
	config.listener = process->listener;
	config.stop = process->stop;
	(void)fcntl(config.listener, F_SETFL, fcntl(config.listener, F_GETFL) | O_NONBLOCK);
	keeper_log(LOG_INFO, "version " IOASID_VERSION ", for uid %u", options->client);
	sd_notify(0, "READY=1");
	r = server_run(&config);
	sd_notify(0, "STOPPING=1");
	if (r < 0)
		fail("the socket", r);
	if (path)
		unlink(path);
	vault_describe(process->vault);
	return r;
}

int main(int argc, char **argv)
{
	struct process process = {.listener = -1, .stop = -1};
	char problem[256] = "";
	int r = options_parse(argc, argv, &process.options, problem);

	if (r) {
		fprintf(stderr, "ioasid-keeper: %s\n", r < 0 ? strerror(-r) : problem);
		return r < 0 ? 1 : 2;
	}
	switch (process.options.action) {
	case OPTIONS_HELP:
		fputs(options_help, stdout);
		break;
	case OPTIONS_VERSION:
		puts("ioasid-keeper " IOASID_VERSION);
		break;
	case OPTIONS_SERVE:
		process.host.ops = &host_linux;
		process.host.allowed = process.options.allowed;
		process.host.n_allowed = process.options.n_allowed;
		process.host.holders = process.options.holders;
		process.host.n_holders = process.options.n_holders;
		r = serve(&process);
		break;
	}
	vault_free(process.vault);
	close_fd(&process.listener);
	close_fd(&process.stop);
	free(process.stored);
	options_deinit(&process.options);
	return r ? 1 : 0;
}
