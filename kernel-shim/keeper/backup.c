/* SPDX-License-Identifier: Apache-2.0 */
/* See backup.h. */
#include "backup.h"

#include "log.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define BARRIER_US UINT64_C(5000000)

void backup_put(const struct backup *backup, const char *name, int fd)
{
	char message[BACKUP_NAME_MAX + 64];
	int r;

	if (!backup->fd_store)
		return;
	/* Without FDPOLL=0 systemd drops an fd that polls as an error. */
	snprintf(message, sizeof(message), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	r = sd_pid_notify_with_fds(0, 0, message, &fd, 1);
	if (r < 0)
		keeper_log(LOG_WARNING, "%s is not in the fd store: %s", name, strerror(-r));
}

void backup_remove(const struct backup *backup, const char *name)
{
	int r = backup->fd_store ? sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name) : 0;

	if (r < 0)
		keeper_log(LOG_WARNING, "%s stays in the fd store: %s", name, strerror(-r));
}

void backup_barrier(const struct backup *backup)
{
	int r = backup->fd_store ? sd_notify_barrier(0, BARRIER_US) : 0;

	if (r < 0)
		keeper_log(LOG_WARNING, "the service manager does not answer: %s", strerror(-r));
}

int backup_write(const struct backup *backup, const char *text, size_t size)
{
	__attribute__((cleanup(close_fd))) int fd = -1;
	char temporary[4096];
	ssize_t n;

	if (!backup->state_path)
		return 0;
	if (snprintf(temporary, sizeof(temporary), "%s.new", backup->state_path) >=
	    (int)sizeof(temporary))
		return -ENAMETOOLONG;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, text, size);
	if (n < 0)
		return -errno;
	if ((size_t)n != size)
		return -ENOSPC;
	return rename(temporary, backup->state_path) < 0 ? -errno : 0;
}
