/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_HOST_USE_H
#define IOASID_KEEPER_HOST_USE_H

/*
 * Does the host itself use a PCI function?  Asked of sysfs and procfs at the moment of the
 * claim, whatever ioasidd believes: disks (mounts, swap, dm, md, btrfs, anything that holds
 * them exclusively), network (addresses, default routes, bridges and bonds), display, and
 * virtual functions that hang on it.  What lies behind the function counts: a USB stick
 * behind a controller as well.
 *
 * Fails on the safe side: what cannot be found out is an error and no "no".
 *
 * It cannot see what another network namespace does with an interface; that there is one, it
 * sees, and takes for a use.
 */

#include "host.h"

/*
 * *ret_reason (KEEPER_REASON_MAX bytes) is "" where the host does not use it, else for what.
 * thorough: also opens its disks exclusively for a moment, which finds uses that no table
 * names (ZFS, mounts of another namespace).  Not while the host may be mounting: it would
 * disturb that.
 */
int host_use(const struct host *host, const char *address, bool thorough, char *ret_reason);

#endif
