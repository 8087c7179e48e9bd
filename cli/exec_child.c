/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork, hand over, exec, and being in between while the program runs.
 *
 * The child waits on a socket, because what it is to inherit exists only after the lease, and the
 * lease only after the pidfd; fds come with the message (SCM_RIGHTS).  The socket closes by exec,
 * so its end tells the parent that the program runs; an errno on it, that it does not.
 *
 * Signals.  The program is in this process's group: what a terminal sends, it sends to both, and
 * the parent must not send that a second time.  It relays what was sent to it alone, by kill(), and
 * everything once the program has a group of its own.  When job control stops the program
 * (TSTP, TTIN, TTOU) the parent stops as well, so that a shell sees its job stopped, and SIGCONT
 * goes on to the program.  The signals are blocked and waited for: no handler, no race with the
 * end of the child, which is a signal among them.
 *
 * Threads: one, until exec_child_fork() has returned; what libioasid starts later has all signals
 * blocked.
 */
#include "exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const int relayed[] = {
	SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP,
};

#define FDS_MAX (EXEC_DEVICES_MAX + 2)

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

/* The fds: of the lease, of each device, and of the context if there is one. */
struct message {
	char devices[EXEC_DEVICES_MAX][16];
	bool has_context;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void relayed_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < sizeof(relayed) / sizeof(relayed[0]); i++)
		sigaddset(set, relayed[i]);
}

/* ---- in the child ---- */

/* Number of fds; < 0: the parent has gone. */
static int receive(int channel, struct message *message, int fds[FDS_MAX])
{
	union control control;
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;
	size_t size;

	do
		n = recvmsg(channel, &header, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(*message) || header.msg_flags & MSG_CTRUNC)
		return -1;
	c = CMSG_FIRSTHDR(&header);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -1;
	size = c->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(c), size);
	return (int)(size / sizeof(int));
}

static int set_number(const char *name, const char *format, int number)
{
	_cleanup_free_ char *value = cli_printf(format, number);

	return setenv(name, value, 1);
}

static int set_environment(const char *socket, const struct message *message, const int *fds, int n)
{
	_cleanup_free_ char *devices = cli_strdup("");
	int r = socket ? setenv("IOASID_SOCKET", socket, 1) : 0;

	if (message->has_context)
		r = r ?: set_number("IOASID_CONTEXT_FD", "%d", fds[--n]);
	else
		r = r ?: unsetenv("IOASID_CONTEXT_FD");
	for (int i = 1; i < n; i++) {
		char *longer = cli_printf("%s%s%s=%d", devices, i > 1 ? " " : "",
					  message->devices[i - 1], fds[i]);

		free(devices);
		devices = longer;
	}
	/* What a launcher before this one gave is not this program's. */
	r = r ?: unsetenv("IOASID_LEASE");
	r = r ?: unsetenv("IOASID_LEASE_SECRET_FILE");
	r = r ?: set_number("IOASID_LEASE_FILE", "fd:%d", fds[0]);
	return r ?: n > 1 ? setenv("IOASID_DEVICE_FDS", devices, 1) : unsetenv("IOASID_DEVICE_FDS");
}

static void __attribute__((noreturn))
child(struct cli *cli, int channel, char *const *argv, const char *socket)
{
	int fds[FDS_MAX], n, error;
	struct message message;

	n = receive(channel, &message, fds);
	/* Nobody is there to be told. */
	if (n < 1)
		_exit(CLI_FAILED);
	if (!cli->sigpipe_was_ignored)
		signal(SIGPIPE, SIG_DFL);
	if (cli->grpc_is_quiet)
		unsetenv("GRPC_VERBOSITY");
	for (int i = 0; i < n; i++)
		if (fcntl(fds[i], F_SETFD, 0) < 0)
			goto fail;
	if (set_environment(socket, &message, fds, n))
		goto fail;
	execvp(argv[0], argv);
fail:
	error = errno;
	while (write(channel, &error, sizeof(error)) < 0 && errno == EINTR)
		;
	_exit(CLI_NO_PROGRAM);
}

/* ---- in the parent ---- */

int exec_child_fork(struct cli *cli, char *const *argv, const char *socket,
		    struct exec_child *child_)
{
	int channels[2], error;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels) < 0)
		return -errno;
	pid = fork();
	if (!pid) {
		close(channels[0]);
		child(cli, channels[1], argv, socket);
	}
	error = errno;
	close(channels[1]);
	if (pid < 0) {
		close(channels[0]);
		return -error;
	}
	*child_ = (struct exec_child){.pid = pid, .pidfd = -1, .channel = channels[0]};
	child_->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (child_->pidfd >= 0)
		return 0;
	error = errno;
	exec_child_end(child_);
	return -error;
}

static int tell(int channel, const struct exec_gifts *gifts)
{
	bool has_context = gifts->context_fd >= 0;
	size_t n = gifts->n_fds + 1 + has_context, size = n * sizeof(int);
	union control control = {.bytes = {0}};
	struct message message = {.has_context = has_context};
	int fds[FDS_MAX];
	struct iovec iov = {.iov_base = &message, .iov_len = sizeof(message)};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&header);

	if (gifts->n_fds > EXEC_DEVICES_MAX)
		return -E2BIG;
	for (size_t i = 0; i < gifts->n_fds; i++)
		strncpy(message.devices[i], gifts->devices[i], sizeof(message.devices[i]) - 1);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(size);
	fds[0] = gifts->lease_fd;
	for (size_t i = 0; i < gifts->n_fds; i++)
		fds[i + 1] = gifts->fds[i];
	if (has_context)
		fds[n - 1] = gifts->context_fd;
	memcpy(CMSG_DATA(c), fds, size);
	return sendmsg(channel, &header, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int exec_child_run(struct exec_child *c, const struct exec_gifts *gifts)
{
	int r, error = 0;
	sigset_t set;
	ssize_t n;

	relayed_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	r = tell(c->channel, gifts);
	/* It was killed: the wait says so. */
	if (r == -EPIPE || r == -ECONNRESET)
		return 0;
	if (r < 0)
		return r;
	do
		n = read(c->channel, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == sizeof(error) ? error : 0;
}

/* True: it has ended, and so.  A stop by job control stops this process. */
static bool look(pid_t pid, int *ret_status)
{
	siginfo_t info = {.si_pid = 0};

	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOHANG) < 0 || !info.si_pid)
		return false;
	if (info.si_code == CLD_EXITED) {
		*ret_status = info.si_status;
		return true;
	}
	if (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
		*ret_status = 128 + info.si_status;
		return true;
	}
	if (info.si_status == SIGTSTP || info.si_status == SIGTTIN || info.si_status == SIGTTOU)
		raise(SIGSTOP);
	return false;
}

static void relay(pid_t pid, const siginfo_t *info)
{
	/* From the kernel: the terminal's, which the program has got as well, in the same group. */
	bool from_terminal = info->si_code > 0 && getpgid(pid) == getpgrp();

	/* It is not reaped yet, so the number is still its own. */
	if (info->si_signo == SIGCONT || !from_terminal)
		kill(pid, info->si_signo);
}

int exec_child_wait(struct exec_child *c)
{
	int status = CLI_FAILED;
	siginfo_t info;
	sigset_t set;

	relayed_set(&set);
	while (!look(c->pid, &status)) {
		if (sigwaitinfo(&set, &info) > 0 && info.si_signo != SIGCHLD)
			relay(c->pid, &info);
	}
	c->pid = 0;
	exec_child_end(c);
	return status;
}

void exec_child_end(struct exec_child *c)
{
	close_fd(&c->channel);
	close_fd(&c->pidfd);
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	c->pid = 0;
}
