/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_VAULT_H
#define IOASID_KEEPER_VAULT_H

/*
 * What the keeper holds: contexts, claimed devices, fds.  Any thread may call; none of these
 * calls waits for another one's work on a device.
 *
 * Owns: every fd in it.  Never does: sockets, bytes of the protocol.
 *
 * A device is CLAIMED for a context, or LEFT: given back by its context and not yet free,
 * because somebody still has its cdev open or because members of its group are still claimed.
 * A group goes back to the host as a whole.
 *
 * Every object holds its charge (charge.h); vault_free() asserts that all are back.
 *
 * 0, -errno or KEEPER_E_*, with ret_reason (KEEPER_REASON_MAX bytes) written for the latter.
 */

#include "backup.h"
#include "charge.h"
#include "host.h"

struct vault;

struct vault_config {
	const struct host *host;
	struct charge_limits limits;
	struct backup backup;
};

int vault_new(const struct vault_config *config, struct vault **ret_vault);
/* Closes everything; devices stay as they are, and in the state file.  NULL-safe. */
void vault_free(struct vault *vault);

/*
 * Before the first other call: what the last keeper had, from its state file and from the fds
 * that systemd kept.  Takes the fds.  -EBADMSG: the file is not one that a keeper wrote.
 */
int vault_restore(struct vault *vault, struct backup_fd *fds, size_t n_fds);
/* Gives back what is LEFT, was of the context (0: of any), and is free by now. */
void vault_settle(struct vault *vault, uint64_t context);
/* What stays behind, into the log. */
void vault_describe(struct vault *vault);

int vault_context_open(struct vault *vault, const char *owner, char *ret_reason,
		       uint64_t *ret_context, int *ret_fd);
int vault_context_close(struct vault *vault, uint64_t context, char *ret_reason);
int vault_context_next(struct vault *vault, uint64_t after, uint64_t *ret_context);
int vault_context_take(struct vault *vault, uint64_t context, int *ret_fd);
/* See holder_bind(). */
int vault_context_delegate(struct vault *vault, uint64_t context, int pidfd, uid_t opener,
			   uint64_t bytes, char *ret_reason);

int vault_claim(struct vault *vault, uint64_t context, const char (*addresses)[KEEPER_PCI_MAX],
		size_t n, char *ret_reason, int *ret_fds);
int vault_release(struct vault *vault, uint64_t context, const char (*addresses)[KEEPER_PCI_MAX],
		  size_t n, char *ret_reason);
int vault_take(struct vault *vault, uint64_t context, const char (*addresses)[KEEPER_PCI_MAX],
	       size_t n, char *ret_reason, int *ret_fds);
/* after "": the first. */
int vault_claim_next(struct vault *vault, uint64_t context, const char *after,
		     char ret_address[static KEEPER_PCI_MAX]);
int vault_is_free(struct vault *vault, const char *address, char *ret_reason);

/* Takes *fd on success. */
int vault_fd_hold(struct vault *vault, const char *owner, const char *name, int *fd,
		  char *ret_reason);
int vault_fd_take(struct vault *vault, const char *name, int *ret_fd);
int vault_fd_drop(struct vault *vault, const char *name);
int vault_fd_next(struct vault *vault, const char *after, char ret_name[static KEEPER_NAME_MAX]);

#endif
