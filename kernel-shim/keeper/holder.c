/* SPDX-License-Identifier: Apache-2.0 */
/* See holder.h. */
#include "holder.h"

#include "log.h"
#include "reason.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_named(const struct host *host, uid_t uid)
{
	for (size_t i = 0; i < host->n_holders; i++)
		if (host->holders[i] == uid)
			return true;
	return false;
}

/* -ESRCH: it has ended. */
static int examine(const struct host *host, int pidfd, char *ret_reason, pid_t *ret_pid,
		   uid_t *ret_uid)
{
	uid_t uid;
	pid_t pid;
	int r = host->ops->process(host->data, pidfd, &pid, &uid);

	if (r == -ENOTTY || r == -EINVAL || r == -ENOSYS)
		return reason_refuse(
			ret_reason, KEEPER_E_UNSUPPORTED,
			"the kernel does not say whose a process is (PIDFD_GET_INFO, Linux "
			"6.13)");
	if (r < 0)
		return r;
	if (!is_named(host, uid))
		return reason_refuse(
			ret_reason, KEEPER_E_FORBIDDEN,
			"process %d is of uid %u, which the keeper may not end (--holder)", pid,
			uid);
	*ret_pid = pid;
	*ret_uid = uid;
	return 0;
}

int holder_bind(const struct host *host, int pidfd, uid_t opener, int iommu, uint64_t bytes,
		char *ret_reason)
{
	pid_t pid;
	uid_t uid;
	int r = examine(host, pidfd, ret_reason, &pid, &uid);

	if (r == -ESRCH)
		return reason_refuse(ret_reason, KEEPER_E_NOT_FOUND, "the process has ended");
	if (r)
		return r;
	if (opener && uid != opener)
		return reason_refuse(
			ret_reason, KEEPER_E_FORBIDDEN,
			"process %d is of uid %u: uid %u, which names it, could not end it", pid,
			uid, opener);
	r = host->ops->count_by_process(host->data, iommu);
	if (r == -EBUSY)
		return reason_refuse(ret_reason, KEEPER_E_BUSY,
				     "something has been made in the context already");
	if (r < 0)
		return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED,
				     "the kernel does not count pinned pages by process: %s",
				     strerror(-r));
	/*
	 * By number: there is no call that takes a pidfd.  The process is alive a moment ago, and
	 * numbers come again after all others.
	 */
	r = host->ops->limit_memlock(host->data, pid, bytes);
	if (r == -ESRCH)
		return reason_refuse(ret_reason, KEEPER_E_NOT_FOUND, "the process has ended");
	if (r < 0)
		return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED,
				     "RLIMIT_MEMLOCK of process %d: %s", pid, strerror(-r));
	keeper_log(LOG_INFO, "process %d may lock %" PRIu64 " bytes", pid, bytes);
	return 0;
}

int holder_end(const struct host *host, int pidfd, char *ret_reason)
{
	pid_t pid;
	uid_t uid;
	int r = examine(host, pidfd, ret_reason, &pid, &uid);

	if (!r)
		r = host->ops->end(host->data, pidfd);
	if (r == -ESRCH)
		return 0;
	if (!r)
		keeper_log(LOG_NOTICE, "process %d is ended: its context was taken back", pid);
	return r;
}
