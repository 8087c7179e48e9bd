/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See init.h.  /proc/PID is opened first, the pidfd second, and then /proc/PID is read: it
 * answers only while the process that it was opened for lives, so that nobody else can have
 * had the number in between.
 */
#include "integrations/oci/init.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Field 22 of stat, counted behind the name, which may hold anything; false: it has ended. */
static bool read_start(int proc, uint64_t *ret_started)
{
	_cleanup_fd_ int fd = openat(proc, "stat", O_RDONLY | O_CLOEXEC);
	char text[1024], state;
	unsigned long long started;
	const char *rest;
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	rest = strrchr(text, ')');
	if (!rest || sscanf(rest + 1,
			    " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			    "%*d %*d %llu",
			    &state, &started) != 2)
		return false;
	if (state == 'Z' || state == 'X')
		return false;
	*ret_started = started;
	return true;
}

static int open_proc(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* A number that was given to a process of the host would have its files mounted over. */
static int check_namespace(int mount_ns)
{
	struct stat its, own;

	if (fstat(mount_ns, &its) < 0 || stat("/proc/self/ns/mnt", &own) < 0)
		return hook_fail(-errno, "cannot look at mount namespaces: %s", strerror(errno));
	if (its.st_ino == own.st_ino && its.st_dev == own.st_dev)
		return hook_fail(-EINVAL, "the container has no mount namespace of its own");
	return 0;
}

int init_open(pid_t pid, struct init *ret_init)
{
	_cleanup_fd_ int proc = open_proc(pid);
	struct init init = INIT_NONE;
	int r;

	init.pid = pid;
	if (proc >= 0)
		init.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (init.pidfd >= 0)
		init.mount_ns = openat(proc, "ns/mnt", O_RDONLY | O_CLOEXEC);
	if (init.mount_ns < 0) {
		r = hook_fail(-errno, "the container's init, process %d: %s", pid, strerror(errno));
		goto fail;
	}
	if (!read_start(proc, &init.started)) {
		r = hook_fail(-ESRCH, "the container's init, process %d, has ended", pid);
		goto fail;
	}
	r = check_namespace(init.mount_ns);
	if (r < 0)
		goto fail;
	*ret_init = init;
	return 0;
fail:
	init_close(&init);
	return r;
}

void init_close(struct init *init)
{
	if (init->pidfd >= 0)
		close(init->pidfd);
	if (init->mount_ns >= 0)
		close(init->mount_ns);
	init->pidfd = init->mount_ns = -1;
}

bool init_lives(pid_t pid, uint64_t started)
{
	_cleanup_fd_ int proc = open_proc(pid);
	uint64_t now;

	return proc >= 0 && read_start(proc, &now) && now == started;
}
