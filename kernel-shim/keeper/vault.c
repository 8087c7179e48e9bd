/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts and held fds; see vault.h, and vault_internal.h for the lock rule. */
#include "vault_internal.h"

#include "holder.h"
#include "log.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vault_new(const struct vault_config *config, struct vault **ret_vault)
{
	struct vault *vault = calloc(1, sizeof(*vault));

	if (!vault)
		return -ENOMEM;
	vault->config = *config;
	vault->charges.limits = config->limits;
	vault->next_context = 1;
	pthread_mutex_init(&vault->lock, NULL);
	*ret_vault = vault;
	return 0;
}

static void context_free(struct vault *vault, struct context *context)
{
	charge_give_back(&vault->charges, &context->charge);
	close_fd(&context->fd);
	free(context);
}

void vault_free(struct vault *vault)
{
	if (!vault)
		return;
	while (vault->devices)
		vault_remove_device(vault, vault->devices);
	while (vault->contexts) {
		struct context *context = vault->contexts;

		vault->contexts = context->next;
		context_free(vault, context);
	}
	while (vault->fds)
		vault_fd_drop(vault, (*(struct held_fd **)vault->fds)->name);
	charge_table_deinit(&vault->charges);
	pthread_mutex_destroy(&vault->lock);
	free(vault);
}

void vault_describe(struct vault *vault)
{
	VAULT_LOCKED(vault);
	for (const struct device *device = vault->devices; device; device = device->next)
		keeper_log(LOG_NOTICE, "%s stays with vfio-pci, %s %s", device->function.address,
			   device->state == DEVICE_LEFT ? "left by" : "claimed for",
			   charge_owner_name(&device->charge));
}

/* ---- contexts ---- */

struct context *vault_find_context(struct vault *vault, uint64_t id)
{
	for (struct context *context = vault->contexts; context; context = context->next)
		if (context->id == id && !context->closing)
			return context;
	return NULL;
}

void context_backup_name(uint64_t id, char ret_name[static BACKUP_NAME_MAX])
{
	snprintf(ret_name, BACKUP_NAME_MAX, "ctx.%" PRIu64, id);
}

static int context_charge(struct vault *vault, const char *owner, char *ret_reason,
			  struct context *context)
{
	int r;

	VAULT_LOCKED(vault);
	r = charge_take(&vault->charges, CHARGE_CONTEXT, owner, ret_reason, &context->charge);
	if (!r)
		context->id = vault->next_context++;
	return r;
}

static int context_publish(struct vault *vault, struct context *context)
{
	int r;

	VAULT_LOCKED(vault);
	context->next = vault->contexts;
	vault->contexts = context;
	r = vault_save(vault);
	if (r < 0)
		vault->contexts = context->next;
	return r;
}

static void context_discard(struct vault *vault, struct context *context)
{
	char name[BACKUP_NAME_MAX];

	if (context->fd >= 0) {
		context_backup_name(context->id, name);
		backup_remove(&vault->config.backup, name);
		/* The last close of a context may take long. */
		close_fd(&context->fd);
	}
	VAULT_LOCKED(vault);
	context_free(vault, context);
}

int vault_context_open(struct vault *vault, const char *owner, char *ret_reason,
		       uint64_t *ret_context, int *ret_fd)
{
	struct context *context = calloc(1, sizeof(*context));
	__attribute__((cleanup(close_fd))) int copy = -1;
	char name[BACKUP_NAME_MAX];
	uint64_t id;
	int r;

	if (!context)
		return -ENOMEM;
	context->fd = -1;
	r = context_charge(vault, owner, ret_reason, context);
	if (r)
		goto discard;
	context->fd = host_open(vault->config.host, "/dev/iommu", O_RDWR);
	if (context->fd < 0) {
		r = context->fd;
		context->fd = -1;
		if (r != -EMFILE && r != -ENFILE && r != -ENOMEM) {
			snprintf(ret_reason, KEEPER_REASON_MAX, "/dev/iommu: %s", strerror(-r));
			r = KEEPER_E_UNSUPPORTED;
		}
		goto discard;
	}
	copy = fcntl(context->fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0) {
		r = -errno;
		goto discard;
	}
	id = context->id;
	context_backup_name(id, name);
	backup_put(&vault->config.backup, name, context->fd);
	r = context_publish(vault, context);
	if (r)
		goto discard;
	*ret_context = id;
	*ret_fd = copy;
	copy = -1;
	return 0;
discard:
	context_discard(vault, context);
	return r;
}

/* Nobody may claim for it any more, and nobody is just claiming or releasing. */
static int context_begin_close(struct vault *vault, uint64_t id, char *ret_reason,
			       struct context **ret_context)
{
	struct context *context;

	VAULT_LOCKED(vault);
	context = vault_find_context(vault, id);
	if (!context) {
		snprintf(ret_reason, KEEPER_REASON_MAX, "no context %" PRIu64, id);
		return KEEPER_E_NOT_FOUND;
	}
	if (context->n_claims) {
		snprintf(ret_reason, KEEPER_REASON_MAX, "a claim for the context is under way");
		return KEEPER_E_BUSY;
	}
	context->closing = true;
	*ret_context = context;
	return 0;
}

int vault_context_close(struct vault *vault, uint64_t id, char *ret_reason)
{
	struct context *context;
	int r = context_begin_close(vault, id, ret_reason, &context);

	if (r)
		return r;
	vault_leave_context(vault, id);
	pthread_mutex_lock(&vault->lock);
	for (struct context **link = &vault->contexts; *link; link = &(*link)->next) {
		if (*link == context) {
			*link = context->next;
			break;
		}
	}
	/* The old file names one context too many: the next start finds no fd for it. */
	(void)vault_save(vault);
	pthread_mutex_unlock(&vault->lock);
	context_discard(vault, context);
	/* Its objects, and the pages that they pin, go with the last copy. */
	backup_barrier(&vault->config.backup);
	return 0;
}

int vault_context_next(struct vault *vault, uint64_t after, uint64_t *ret_context)
{
	uint64_t best = 0;

	VAULT_LOCKED(vault);
	for (const struct context *context = vault->contexts; context; context = context->next)
		if (context->id > after && !context->closing && (!best || context->id < best))
			best = context->id;
	if (!best)
		return KEEPER_E_NOT_FOUND;
	*ret_context = best;
	return 0;
}

int vault_context_take(struct vault *vault, uint64_t id, int *ret_fd)
{
	const struct context *context;
	int fd;

	VAULT_LOCKED(vault);
	context = vault_find_context(vault, id);
	if (!context)
		return KEEPER_E_NOT_FOUND;
	fd = fcntl(context->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* On a copy: the kernel and a process are asked without the lock. */
int vault_context_delegate(struct vault *vault, uint64_t id, int pidfd, uid_t opener,
			   uint64_t bytes, char *ret_reason)
{
	__attribute__((cleanup(close_fd))) int fd = -1;
	int r = vault_context_take(vault, id, &fd);

	if (r == KEEPER_E_NOT_FOUND)
		snprintf(ret_reason, KEEPER_REASON_MAX, "no context %" PRIu64, id);
	return r ?: holder_bind(vault->config.host, pidfd, opener, fd, bytes, ret_reason);
}

/* ---- held fds ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Replaces fd and charge of held; *fd becomes the old one.  Nothing changes on failure. */
static int held_replace(struct vault *vault, struct held_fd *held, const char *owner, int *fd,
			char *ret_reason)
{
	struct charge charge = held->charge;
	int old = held->fd, r = 0;

	if (!charge.owner || strcmp(charge_owner_name(&charge), owner) != 0) {
		r = charge_take(&vault->charges, CHARGE_FD, owner, ret_reason, &charge);
		if (r)
			return r;
		charge_give_back(&vault->charges, &held->charge);
	}
	held->charge = charge;
	held->fd = *fd;
	*fd = old;
	return 0;
}

static int held_put(struct vault *vault, const char *owner, const char *name, int *fd,
		    char *ret_reason)
{
	struct held_fd **node, *held;
	int r;

	VAULT_LOCKED(vault);
	node = tfind(name, &vault->fds, compare);
	if (node)
		return held_replace(vault, *node, owner, fd, ret_reason);
	held = calloc(1, sizeof(*held));
	if (!held)
		return -ENOMEM;
	held->fd = -1;
	snprintf(held->name, sizeof(held->name), "%s", name);
	if (!tsearch(held, &vault->fds, compare)) {
		free(held);
		return -ENOMEM;
	}
	r = held_replace(vault, held, owner, fd, ret_reason);
	if (r) {
		tdelete(held, &vault->fds, compare);
		free(held);
	}
	return r;
}

int vault_fd_hold(struct vault *vault, const char *owner, const char *name, int *fd,
		  char *ret_reason)
{
	int r = held_put(vault, owner, name, fd, ret_reason);

	/* What was replaced: closing the last fd of a large file takes long. */
	if (!r)
		close_fd(fd);
	return r;
}

int vault_fd_take(struct vault *vault, const char *name, int *ret_fd)
{
	struct held_fd **node;
	int fd;

	VAULT_LOCKED(vault);
	node = tfind(name, &vault->fds, compare);
	if (!node)
		return KEEPER_E_NOT_FOUND;
	fd = fcntl((*node)->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int vault_fd_drop(struct vault *vault, const char *name)
{
	__attribute__((cleanup(close_fd))) int fd = -1; /* closed after the lock is gone */
	struct held_fd **node, *held;

	VAULT_LOCKED(vault);
	node = tfind(name, &vault->fds, compare);
	if (!node)
		return KEEPER_E_NOT_FOUND;
	held = *node;
	tdelete(held, &vault->fds, compare);
	charge_give_back(&vault->charges, &held->charge);
	fd = held->fd;
	free(held);
	return 0;
}

struct successor {
	const char *after;
	const char *name; /* the best so far */
};

static int compare_successor(const void *key, const void *node)
{
	struct successor *successor = (struct successor *)key;
	const struct held_fd *held = node;

	if (strcmp(held->name, successor->after) <= 0)
		return 1;
	successor->name = held->name;
	return -1;
}

/*
 * A search that finds nothing: on its way down to where something just above after would be,
 * the last that it turned left at is the next one.  A walk over the whole tree for each
 * name would take the lock for long.
 */
int vault_fd_next(struct vault *vault, const char *after, char ret_name[static KEEPER_NAME_MAX])
{
	struct successor successor = {.after = after};

	VAULT_LOCKED(vault);
	(void)tfind(&successor, &vault->fds, compare_successor);
	if (!successor.name)
		return KEEPER_E_NOT_FOUND;
	memcpy(ret_name, successor.name, KEEPER_NAME_MAX);
	return 0;
}
