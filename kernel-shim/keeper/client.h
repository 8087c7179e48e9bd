/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_CLIENT_H
#define IOASID_KEEPER_CLIENT_H

/*
 * The calls that a shim makes to ioasid-keeper (docs/keeper-protocol.md): the only way by
 * which ioasidd gets at a device node.
 *
 * A struct keeper is a pool of connections to the keeper's socket; any number of threads may
 * call at once, each call takes one connection for its time.  Every call blocks until the
 * keeper has answered; those marked [long] may take seconds (drivers, resets).
 *
 * Errors.  0 is success; -errno is unexpected (-ECONNREFUSED, -ENOENT, -EPIPE: the keeper is
 * not there; -EPROTO: it speaks another protocol); a positive KEEPER_E_* is documented and
 * handled by the caller.  Out-parameters are untouched on failure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct keeper;

#define KEEPER_ADDRESS_MAX 32  /* "0000:3b:00.0" with its NUL */
#define KEEPER_OWNER_MAX   256 /* a tenant's path with its NUL */
#define KEEPER_REASON_MAX  160
#define KEEPER_NAME_MAX	   64 /* of a held fd, with its NUL */
#define KEEPER_DEVICES_MAX 64 /* of one claim, release or take */

enum keeper_error {
	/* The host has no such device, no such context or fd is kept, or no further one. */
	KEEPER_E_NOT_FOUND = 1,
	/* Claimed already, or its last holder still has the device's fd. */
	KEEPER_E_BUSY,
	/* The keeper's own rules forbid it: the host uses the device, or it is no function. */
	KEEPER_E_FORBIDDEN,
	/* Members of the device's IOMMU group are missing from the claim. */
	KEEPER_E_GROUP,
	/* A limit of the owner, or of the keeper. */
	KEEPER_E_LIMIT,
	/* The kernel has no iommufd, no VFIO cdev, no vfio-pci, or refused the driver. */
	KEEPER_E_UNSUPPORTED,
};

/* A context that the keeper holds: one open /dev/iommu. */
struct keeper_context_id {
	uint64_t value;
};

/* What only root can read of a PCI function, and what the host does with it. */
struct keeper_device {
	uint8_t pasid_bits; /* of the PASID capability; 0: none */
	bool pasid_exec;
	bool ats;
	bool pri;
	bool reset;	 /* the kernel has a method to reset it */
	char driver[32]; /* bound now; "": none */
	/* "": the host does not use it, or the operator gives it away nevertheless; else for what
	 */
	char host_use[KEEPER_REASON_MAX];
};

/* Connects once, to know that the keeper is there and speaks the protocol. */
int keeper_connect(const char *path, struct keeper **ret_keeper);
void keeper_free(struct keeper *keeper); /* NULL-safe */

/*
 * A connection on which nothing is ever said.  It polls as readable, at its end, as soon as
 * the keeper that answers now ends; only the caller closes it.  A keeper that ends loses the
 * held fds: who wants to notice watches first and holds then.  It needs a place of its own
 * among the keeper's connections: one a process.
 */
int keeper_watch(struct keeper *keeper, int *ret_fd);

/*
 * Opens /dev/iommu.  owner: whom the keeper's limits count it for.  The keeper holds a
 * duplicate until keeper_context_close().  LIMIT, UNSUPPORTED; ret_reason (KEEPER_REASON_MAX
 * bytes) says why wherever a KEEPER_E_* is returned, also below.
 */
int keeper_context_open(struct keeper *keeper, const char *owner, char *ret_reason,
			struct keeper_context_id *ret_context, int *ret_fd);
/*
 * The caller has closed its own fd.  Devices claimed for it are released first.  [long]
 * NOT_FOUND; BUSY: a claim for it is under way.
 */
int keeper_context_close(struct keeper *keeper, struct keeper_context_id context);
/*
 * The context with the smallest id above after (0: the first).  NOT_FOUND: there is none.
 * A broker that starts closes by it what its registry does not know: nothing else ends what
 * a broker left behind that forgot its ids.
 */
int keeper_context_next(struct keeper *keeper, struct keeper_context_id after,
			struct keeper_context_id *ret_context);
/*
 * Another duplicate of the context's iommufd.  NOT_FOUND.  An id is one context's for ever, at
 * least until the host is booted again, whatever became of the keeper: what it finds is what
 * was opened under it.
 */
int keeper_context_take(struct keeper *keeper, struct keeper_context_id context, int *ret_fd);

/*
 * The context, in which nothing was made yet, is for a process: what it pins counts for the
 * process that maps it, and this one may lock so many bytes (RLIMIT_MEMLOCK), not 0, whatever
 * its limit was.  Only one that the keeper may end, and that opener, who named it, could end by
 * itself: of the same real uid, or opener is root.  NOT_FOUND: no such context, or the
 * process has ended; FORBIDDEN, BUSY, UNSUPPORTED.
 */
int keeper_context_delegate(struct keeper *keeper, struct keeper_context_id context, int pidfd,
			    uid_t opener, uint64_t bytes, char *ret_reason);
/*
 * Ends such a process by SIGKILL; 0: it was sent, or the process has ended already.  owner: for
 * whom, in the log.  FORBIDDEN: not of a uid that the keeper may end.  UNSUPPORTED.
 */
int keeper_holder_end(struct keeper *keeper, const char *owner, int pidfd, char *ret_reason);

/*
 * [long] Claims devices for a context, all or none: safety check, group check, vfio-pci,
 * the VFIO cdev opened.  ret_fds[i] is the cdev of addresses[i], not yet bound to an iommufd;
 * the keeper holds a duplicate of each.  NOT_FOUND, BUSY, FORBIDDEN, GROUP, LIMIT,
 * UNSUPPORTED.
 */
int keeper_devices_claim(struct keeper *keeper, struct keeper_context_id context,
			 const char *const *addresses, size_t n, char *ret_reason, int *ret_fds);
/*
 * [long] Gives devices of the context back.  The caller has detached them and closed its own
 * fds.  Where nobody else has the cdev open either, the device is reset and goes back to the
 * driver that it had; otherwise it stays claimed, for nobody, and the keeper tries again
 * whenever it is asked (keeper_device_is_free()).  Members of an IOMMU group go back together,
 * with the last of them.  NOT_FOUND: one of them is not claimed for the context; nothing is
 * released then.
 */
int keeper_devices_release(struct keeper *keeper, struct keeper_context_id context,
			   const char *const *addresses, size_t n);
/*
 * ret_fds[i] is another duplicate of the cdev of addresses[i], which is bound to what it was
 * bound to: all duplicates share one open file.  All or none.  NOT_FOUND: one of them is not
 * claimed for the context.
 */
int keeper_devices_take(struct keeper *keeper, struct keeper_context_id context,
			const char *const *addresses, size_t n, int *ret_fds);
/*
 * The device claimed for the context whose address is the smallest, by strcmp(3), above after
 * (NULL or "": the first).  NOT_FOUND: there is none, or no such context.
 */
int keeper_claim_next(struct keeper *keeper, struct keeper_context_id context, const char *after,
		      char ret_address[static KEEPER_ADDRESS_MAX]);
/* 0: it can be claimed; BUSY: it is claimed, or its last holder still has its fd.  NOT_FOUND. */
int keeper_device_is_free(struct keeper *keeper, const char *address);

/* NOT_FOUND. */
int keeper_device_examine(struct keeper *keeper, const char *address,
			  struct keeper_device *ret_device);

/*
 * Fds that must outlive ioasidd, under a name that its registry knows (at most 63 bytes of
 * [A-Za-z0-9._-]).  hold replaces what the name had.  LIMIT; take: a new duplicate, NOT_FOUND.
 */
int keeper_fd_hold(struct keeper *keeper, const char *owner, const char *name, int fd);
int keeper_fd_take(struct keeper *keeper, const char *name, int *ret_fd);
int keeper_fd_drop(struct keeper *keeper, const char *name);
/* The smallest name, by strcmp(3), above after ("": the first).  NOT_FOUND: there is none. */
int keeper_fd_next(struct keeper *keeper, const char *after, char ret_name[static KEEPER_NAME_MAX]);

#endif
