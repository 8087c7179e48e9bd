/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of a service manager as ioasid-keeper knows: its socket, which is there before it and
 * after it, and the fd store (sd_notify(3), sd_listen_fds(3)).
 *
 *	fd_store SOCKET UID PID-FILE COMMAND...
 *
 * COMMAND is started with the listening socket, which only UID may use, and with what its
 * predecessor stored; it is started again whenever a signal has killed it, as Restart=on-abnormal
 * does.  PID-FILE has its number.  SIGTERM ends it and then this; the exit status is its.
 *
 * Everything here happens between two messages, in one thread; only the fds of one message are
 * looked at, as the keeper sends one each.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STORED_MAX 64
#define FIRST_FD   3

static struct stored {
	int fd;
	char name[64];
} stored[STORED_MAX];
static int n_stored;

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(125);
}

static int bind_to(const char *path, int type, struct sockaddr_un *ret_address)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)ret_address, sizeof(*ret_address)))
		die(path);
	return fd;
}

static void put(const char *name, int fd)
{
	if (n_stored == STORED_MAX) {
		fprintf(stderr, "fd_store: more than %d fds\n", STORED_MAX);
		exit(125);
	}
	stored[n_stored].fd = fd;
	snprintf(stored[n_stored++].name, sizeof(stored->name), "%s", name);
}

static void remove_all(const char *name)
{
	for (int i = 0; i < n_stored; i++) {
		if (strcmp(stored[i].name, name) != 0)
			continue;
		close(stored[i].fd);
		stored[i--] = stored[--n_stored];
	}
}

/* A barrier's fd is closed when all that came before it is done, as it is. */
static void obey(char *message, int fd)
{
	bool put_it = false, remove_it = false;
	const char *name = "";
	char *rest = message, *line;

	while ((line = strsep(&rest, "\n"))) {
		if (!strcmp(line, "FDSTORE=1"))
			put_it = true;
		else if (!strcmp(line, "FDSTOREREMOVE=1"))
			remove_it = true;
		else if (!strncmp(line, "FDNAME=", 7))
			name = line + 7;
	}
	if (put_it && fd >= 0) {
		put(name, fd);
		return;
	}
	if (remove_it)
		remove_all(name);
	if (fd >= 0)
		close(fd);
}

static void hear(int notify)
{
	char message[512];
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec vector = {.iov_base = message, .iov_len = sizeof(message) - 1};
	struct msghdr header = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;
	int fd;

	while ((n = recvmsg(notify, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) >= 0) {
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);

		fd = -1;
		if (c && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof(fd));
		message[n] = '\0';
		obey(message, fd);
		header.msg_controllen = sizeof(control.bytes);
	}
}

/* In the child.  Every fd that it gets is above those numbers before it gets one of them. */
static void __attribute__((noreturn)) become(char **command, int listener, const char *notify)
{
	char names[STORED_MAX * 65 + 16] = "socket", number[16];
	sigset_t none;

	for (int i = 0; i < n_stored; i++) {
		strcat(names, ":");
		strcat(names, stored[i].name);
	}
	/* These clear FD_CLOEXEC. */
	if (dup2(listener, FIRST_FD) < 0)
		die("dup2");
	for (int i = 0; i < n_stored; i++)
		if (dup2(stored[i].fd, FIRST_FD + 1 + i) < 0)
			die("dup2");
	snprintf(number, sizeof(number), "%d", 1 + n_stored);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
	setenv("NOTIFY_SOCKET", notify, 1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execv(command[0], command);
	die(command[0]);
}

static pid_t start(char **command, int listener, const char *notify, const char *pid_file)
{
	char temporary[256];
	pid_t pid = fork();
	FILE *file;

	if (pid < 0)
		die("fork");
	if (pid == 0)
		become(command, listener, notify);
	snprintf(temporary, sizeof(temporary), "%s.new", pid_file);
	file = fopen(temporary, "we");
	if (!file || fprintf(file, "%d\n", (int)pid) < 0 || fclose(file) ||
	    rename(temporary, pid_file))
		die(pid_file);
	return pid;
}

/* Numbers up to FIRST_FD + STORED_MAX are kept for what a child gets. */
static void reserve_numbers(void)
{
	while (dup(STDERR_FILENO) <= FIRST_FD + STORED_MAX)
		continue;
	for (int fd = FIRST_FD; fd <= FIRST_FD + STORED_MAX; fd++)
		if (dup3(STDERR_FILENO, fd, O_CLOEXEC) < 0)
			die("dup3");
}

int main(int argc, char **argv)
{
	struct signalfd_siginfo info;
	struct sockaddr_un address;
	char notify_path[108];
	struct pollfd polled[2];
	int listener, notify, signals, status;
	bool ending = false;
	sigset_t mask;
	pid_t child;

	if (argc < 5) {
		fprintf(stderr, "usage: fd_store SOCKET UID PID-FILE COMMAND...\n");
		return 125;
	}
	reserve_numbers();
	snprintf(notify_path, sizeof(notify_path), "%.100s.notify", argv[1]);
	notify = bind_to(notify_path, SOCK_DGRAM, &address);
	listener = bind_to(argv[1], SOCK_SEQPACKET, &address);
	if (chmod(argv[1], 0600) || chown(argv[1], (uid_t)atoi(argv[2]), (gid_t)-1) ||
	    listen(listener, 64))
		die(argv[1]);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signals = signalfd(-1, &mask, SFD_CLOEXEC);
	if (signals < 0)
		die("signalfd");
	child = start(argv + 4, listener, notify_path, argv[3]);
	polled[0] = (struct pollfd){.fd = notify, .events = POLLIN};
	polled[1] = (struct pollfd){.fd = signals, .events = POLLIN};
	for (;;) {
		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			die("poll");
		/* What it said before it ended. */
		hear(notify);
		if (!(polled[1].revents & POLLIN) ||
		    read(signals, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo == SIGTERM) {
			ending = true;
			kill(child, SIGTERM);
			continue;
		}
		if (waitpid(child, &status, WNOHANG) != child)
			continue;
		hear(notify);
		if (ending || !WIFSIGNALED(status))
			break;
		child = start(argv + 4, listener, notify_path, argv[3]);
	}
	unlink(argv[1]);
	unlink(notify_path);
	/* What is stored is what the keeper did not give back. */
	for (int i = 0; i < n_stored; i++)
		printf("fd_store: %s is still stored\n", stored[i].name);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
