/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_HOLDER_H
#define IOASID_KEEPER_HOLDER_H

/*
 * Processes that a context is given to (docs/delegate.md): the one thing that the keeper does to
 * a process.
 *
 * Only to one whose real uid the operator named (--holder): whoever has the keeper's client in
 * its hands can end no other.  Such a process could be ended by anybody of its own uid.
 *
 * 0, -errno or KEEPER_E_*, with ret_reason (KEEPER_REASON_MAX bytes) written for the latter.
 */

#include "host.h"

/*
 * opener: whom the process was named by, who could end it by itself: its uid is the same, or it is
 * root.  Else a tenant could have another one's process limited, and ended with its own lease.
 *
 * The context counts what it pins for the process that maps it, and this process may lock so
 * many bytes, whatever its limit was.  Nothing may have been made in the context before.
 * FORBIDDEN, NOT_FOUND: the process has ended, BUSY: something has been made, UNSUPPORTED.
 */
int holder_bind(const struct host *host, int pidfd, uid_t opener, int iommu, uint64_t bytes,
		char *ret_reason);
/* SIGKILL; 0 also for one that has ended.  FORBIDDEN, UNSUPPORTED. */
int holder_end(const struct host *host, int pidfd, char *ret_reason);

#endif
