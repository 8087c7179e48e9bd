/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_VAULT_INTERNAL_H
#define IOASID_KEEPER_VAULT_INTERNAL_H

/*
 * The objects of the vault, for vault.c, devices.c, claims.c and state.c.
 *
 * The lock rule.  vault->lock guards the lists, the charges and every member below, with one
 * exception: while a device is busy, function and what follows it are its worker's alone, and
 * nobody but its worker may end its being busy, or free it.  The lock is held for the look-up of a
 * thing and for a small write to a tmpfs (the state file), never for a call that asks a
 * driver, a device or the service manager: those are made on objects that are busy, or that
 * are not in a list.
 */

#include "function.h"
#include "vault.h"

#include <pthread.h>

struct context {
	struct context *next;
	struct charge charge;
	uint64_t id;
	int fd;
	unsigned n_claims; /* under way */
	bool closing;
};

enum device_state {
	/* Being claimed; always busy. */
	DEVICE_CLAIMING,
	DEVICE_CLAIMED,
	/* Of no context any more. */
	DEVICE_LEFT,
};

struct device {
	struct device *next;
	struct charge charge;
	enum device_state state;
	bool busy;
	uint64_t context;	  /* LEFT: whose it was */
	bool known;		  /* function is filled in, and belongs into the state file */
	struct function function; /* .address is set from the start and never changes */
	int fd;
	bool told;     /* the log that it is left */
	bool returned; /* for the end of the work: it is the host's again */
	struct device *next_work;
};

struct held_fd {
	char name[KEEPER_NAME_MAX]; /* first: the tree compares it */
	struct charge charge;
	int fd;
};

struct vault {
	struct vault_config config;
	pthread_mutex_t lock;
	struct charge_table charges;
	uint64_t next_context;
	struct context *contexts; /* newest first */
	struct device *devices;
	void *fds; /* tsearch(3) */
};

static inline void vault_unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

/* Until the end of the block. */
#define VAULT_LOCKED(vault)                                                                        \
	__attribute__((cleanup(vault_unlock), unused)) pthread_mutex_t *locked = &(vault)->lock;   \
	pthread_mutex_lock(locked)

/* All with the lock held. */
struct context *vault_find_context(struct vault *vault, uint64_t id);
struct device *vault_find_device(struct vault *vault, const char *address);
void vault_remove_device(struct vault *vault, struct device *device);
/* Writes the state file; an error is logged, too. */
int vault_save(struct vault *vault);

/* Without the lock. */
void device_backup_name(const char *address, char ret_name[static BACKUP_NAME_MAX]);
void context_backup_name(uint64_t id, char ret_name[static BACKUP_NAME_MAX]);
/* Releases all devices of a closing context. */
void vault_leave_context(struct vault *vault, uint64_t context);

#endif
