/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes, as far as leases depend on them.  A pid is used again after its process; together
 * with the time at which the process started (proc(5), stat, field 22) it is not.
 *
 * Owns nothing, allocates nothing.  Any thread.
 */
#include "server/broker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The start of a file of /proc; 0 bytes if it cannot be read. */
static size_t read_proc(const char *path, char *ret_text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_text, size - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		n = 0;
	ret_text[n] = '\0';
	return n;
}

/* Field 22; the second one is the name, in parentheses, and may have anything in it. */
static bool parse_start_time(const char *stat, uint64_t *ret_ticks)
{
	const char *at = strrchr(stat, ')');
	char *end;

	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return false;
	errno = 0;
	*ret_ticks = strtoull(at + 1, &end, 10);
	return !errno && end != at + 1;
}

struct process_id process_of_pid(pid_t pid)
{
	struct process_id p = {.pid = pid};
	char path[32], stat[1024];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (pid <= 0 || !read_proc(path, stat, sizeof(stat)) ||
	    !parse_start_time(stat, &p.start_time))
		return (struct process_id){0};
	return p;
}

struct process_id process_of_pidfd(int pidfd)
{
	char path[40], info[1024];
	const char *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (!read_proc(path, info, sizeof(info)))
		return (struct process_id){0};
	at = strstr(info, "\nPid:");
	return at ? process_of_pid(atoi(at + 5)) : (struct process_id){0};
}

bool process_is_same(const struct process_id *a, const struct process_id *b)
{
	return a->pid && a->pid == b->pid && a->start_time == b->start_time;
}

int process_open(const struct process_id *process, int *ret_pidfd)
{
	struct process_id now;
	int fd;

	if (process->pid <= 0)
		return -ESRCH;
	fd = syscall(SYS_pidfd_open, process->pid, 0);
	if (fd < 0)
		return -errno;
	/* Asked after the fd exists: from here on the pid cannot become another's. */
	now = process_of_pid(process->pid);
	if (!process_is_same(process, &now)) {
		close(fd);
		return -ESRCH;
	}
	*ret_pidfd = fd;
	return 0;
}
