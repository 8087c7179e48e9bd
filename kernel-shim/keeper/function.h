/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_FUNCTION_H
#define IOASID_KEEPER_FUNCTION_H

/*
 * One PCI function and the drivers: what may be claimed, taking it to vfio-pci, giving it
 * back.  Stateless but for struct function; all of it may block for seconds.
 *
 * Giving back looks at what the kernel says now and not at how far taking came: the same
 * function undoes a claim that failed half-way, ends a lease, and cleans up after a crash.
 *
 * Who holds a cdev.  Only the keeper opens one, so all who have it share one open file, and
 * a file that is bound to an iommufd makes any second BIND fail until its last holder closes
 * it.  function_seal() therefore binds the keeper's own duplicate, where ioasidd never did,
 * before it is closed: from then on function_is_quiet() tells the truth, and unbinding
 * vfio-pci, which waits for holders, is done only when there is none.
 */

#include "host.h"

#define FUNCTION_GROUP_MAX 64 /* members of a group that a claim can miss */

struct function {
	char address[KEEPER_PCI_MAX];
	int group;
	/* What it had before the claim; "": none. */
	char driver[KEEPER_DRIVER_MAX];
	char override[KEEPER_DRIVER_MAX];
};

/* Endpoints of a group; bridges are left out. */
struct function_group {
	size_t n;
	char members[FUNCTION_GROUP_MAX][KEEPER_PCI_MAX];
};

/*
 * May it be claimed, and what is it now?  Changes nothing.  NOT_FOUND, FORBIDDEN, UNSUPPORTED,
 * with ret_reason (KEEPER_REASON_MAX bytes) written.
 */
int function_inspect(const struct host *host, const char *address, char *ret_reason,
		     struct function *ret_function, struct function_group *ret_group);

/* What only root can read, for the keeper's caller. */
int function_examine(const struct host *host, const char *address,
		     struct keeper_device *ret_device);

/* To vfio-pci.  UNSUPPORTED; the caller gives back. */
int function_take(const struct host *host, const struct function *function, char *ret_reason);

/* The cdev, opened.  UNSUPPORTED. */
int function_open(const struct host *host, const struct function *function, char *ret_reason,
		  int *ret_fd);

/* Makes it seen by function_is_quiet() whether others have this open cdev. */
int function_seal(const struct host *host, int cdev);

/*
 * 0: nobody has the cdev, and so no DMA goes on.  BUSY; UNSUPPORTED: it cannot be used.
 * giving_back: that the kernel lets nobody bind it is all right; a companion of its group has a
 * driver of the host already.
 */
int function_is_quiet(const struct host *host, const struct function *function, bool giving_back,
		      char *ret_reason);

/* 0 also where the kernel has no method. */
int function_reset(const struct host *host, const struct function *function);

/*
 * To the driver that it had.  Nobody has the cdev.  -errno: it is as it was.  A
 * driver that does not come back is logged, and no failure: trying again would not help.
 */
int function_give_back(const struct host *host, const struct function *function);

#endif
