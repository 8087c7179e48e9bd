/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claiming devices and giving them back; see vault.h, and vault_internal.h for the lock rule.
 *
 * A claim: reserve the addresses (busy) · look at each function and its group · save the
 * state file, for what comes next forgets the drivers they had · take all · probe, open each.  A
 * failure gives back in reverse.
 *
 * A give-back works on a whole group: seal and close the keeper's cdevs · nobody has any of
 * them open · reset all · the drivers.  DMA of the last holder is over before the reset: the
 * kernel ends it when the last fd of a cdev is closed.
 */
#include "vault_internal.h"

#include "log.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void settle_device(struct vault *vault, const char *address);

struct device *vault_find_device(struct vault *vault, const char *address)
{
	for (struct device *device = vault->devices; device; device = device->next)
		if (!strcmp(device->function.address, address))
			return device;
	return NULL;
}

void vault_remove_device(struct vault *vault, struct device *device)
{
	for (struct device **link = &vault->devices; *link; link = &(*link)->next) {
		if (*link == device) {
			*link = device->next;
			break;
		}
	}
	charge_give_back(&vault->charges, &device->charge);
	close_fd(&device->fd);
	free(device);
}

void device_backup_name(const char *address, char ret_name[static BACKUP_NAME_MAX])
{
	snprintf(ret_name, BACKUP_NAME_MAX, "dev.%s", address);
	/* Names of the fd store are joined by colons. */
	for (char *c = ret_name; *c; c++)
		if (*c == ':')
			*c = '-';
}

static void device_give_back(struct vault *vault, struct device *device)
{
	int r = function_give_back(vault->config.host, &device->function);

	device->returned = r == 0;
	if (r < 0)
		keeper_log(LOG_ERR, "%s stays with vfio-pci: %s", device->function.address,
			   strerror(-r));
}

/* ---- claim ---- */

struct claim {
	struct vault *vault;
	const struct host *host;
	uint64_t context;
	const char (*addresses)[KEEPER_PCI_MAX];
	size_t n;
	size_t n_taken; /* whose drivers have been touched */
	char *reason;
	struct device *devices[KEEPER_DEVICES_MAX];
	int copies[KEEPER_DEVICES_MAX];
};

static int reserve_one(struct claim *claim, const char *owner, size_t i)
{
	struct vault *vault = claim->vault;
	struct device *device = vault_find_device(vault, claim->addresses[i]);
	int r;

	if (device) {
		snprintf(claim->reason, KEEPER_REASON_MAX,
			 device->state == DEVICE_LEFT ? "%s: its last holder still has it"
						      : "%s is claimed",
			 claim->addresses[i]);
		return KEEPER_E_BUSY;
	}
	device = calloc(1, sizeof(*device));
	if (!device)
		return -ENOMEM;
	r = charge_take(&vault->charges, CHARGE_DEVICE, owner, claim->reason, &device->charge);
	if (r) {
		free(device);
		return r;
	}
	device->fd = -1;
	device->state = DEVICE_CLAIMING;
	device->busy = true;
	device->context = claim->context;
	memcpy(device->function.address, claim->addresses[i], KEEPER_PCI_MAX);
	device->next = vault->devices;
	vault->devices = device;
	claim->devices[i] = device;
	return 0;
}

static int claim_reserve(struct claim *claim)
{
	struct context *context;
	int r = 0;

	VAULT_LOCKED(claim->vault);
	context = vault_find_context(claim->vault, claim->context);
	if (!context) {
		snprintf(claim->reason, KEEPER_REASON_MAX, "no context %" PRIu64, claim->context);
		return KEEPER_E_NOT_FOUND;
	}
	for (size_t i = 0; i < claim->n && !r; i++)
		r = reserve_one(claim, charge_owner_name(&context->charge), i);
	if (!r)
		context->n_claims++;
	for (size_t i = 0; r && i < claim->n; i++)
		if (claim->devices[i])
			vault_remove_device(claim->vault, claim->devices[i]);
	return r;
}

static bool claim_names(const struct claim *claim, const char *address)
{
	for (size_t i = 0; i < claim->n; i++)
		if (!strcmp(claim->addresses[i], address))
			return true;
	return false;
}

/* Every member is of this claim, or the context has it already.  Notes the function. */
static int claim_join_group(struct claim *claim, struct device *device,
			    const struct function *function, const struct function_group *group)
{
	size_t n = 0;

	VAULT_LOCKED(claim->vault);
	for (size_t i = 0; i < group->n; i++) {
		const struct device *member = vault_find_device(claim->vault, group->members[i]);

		if (claim_names(claim, group->members[i]) ||
		    (member && member->state == DEVICE_CLAIMED &&
		     member->context == claim->context))
			continue;
		if (n < KEEPER_REASON_MAX)
			n += snprintf(claim->reason + n, KEEPER_REASON_MAX - n, "%s%s",
				      n ? ", " : "missing of the group: ", group->members[i]);
	}
	if (n)
		return KEEPER_E_GROUP;
	/* In the same locked section: from now on a companion cannot be given back alone. */
	device->function = *function;
	device->known = true;
	return 0;
}

static int claim_inspect(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		struct function function;
		struct function_group group;
		int r = function_inspect(claim->host, claim->addresses[i], claim->reason, &function,
					 &group);

		if (!r)
			r = claim_join_group(claim, claim->devices[i], &function, &group);
		if (r)
			return r;
	}
	VAULT_LOCKED(claim->vault);
	return vault_save(claim->vault);
}

static int claim_take(struct claim *claim, size_t i)
{
	claim->n_taken = i + 1;
	return function_take(claim->host, &claim->devices[i]->function, claim->reason);
}

/* After all are taken: the kernel binds none while a companion has a driver of the host. */
static int claim_open(struct claim *claim, size_t i)
{
	struct device *device = claim->devices[i];
	int r;

	r = function_is_quiet(claim->host, &device->function, false, claim->reason);
	if (!r)
		r = function_open(claim->host, &device->function, claim->reason, &device->fd);
	if (r)
		return r;
	claim->copies[i] = fcntl(device->fd, F_DUPFD_CLOEXEC, 0);
	return claim->copies[i] < 0 ? -errno : 0;
}

/* In reverse.  What does not go back is kept, with the driver that it had. */
static void claim_undo(struct claim *claim)
{
	for (size_t i = claim->n_taken; i-- > 0;) {
		struct device *device = claim->devices[i];

		close_fd(&claim->copies[i]);
		close_fd(&device->fd);
		device_give_back(claim->vault, device);
	}
}

/*
 * A claim that is not in the file is nobody's after a restart, and so it has failed.  Where a
 * failure is not in the file, the next start finds that these have their drivers.
 */
static int claim_end(struct claim *claim, bool success)
{
	struct vault *vault = claim->vault;
	int r;

	VAULT_LOCKED(vault);
	for (size_t i = 0; i < claim->n; i++) {
		struct device *device = claim->devices[i];

		device->busy = false;
		device->state = success ? DEVICE_CLAIMED : DEVICE_LEFT;
		if (!success && (i >= claim->n_taken || device->returned))
			vault_remove_device(vault, device);
	}
	/* A context with a claim under way is not closed. */
	vault_find_context(vault, claim->context)->n_claims--;
	r = vault_save(vault);
	for (size_t i = 0; i < claim->n && success && r < 0; i++)
		claim->devices[i]->state = DEVICE_LEFT;
	return success ? r : 0;
}

int vault_claim(struct vault *vault, uint64_t context, const char (*addresses)[KEEPER_PCI_MAX],
		size_t n, char *ret_reason, int *ret_fds)
{
	struct claim claim = {
		.vault = vault,
		.host = vault->config.host,
		.context = context,
		.addresses = addresses,
		.n = n,
		.reason = ret_reason,
	};
	int r, saved;

	for (size_t i = 0; i < n; i++)
		claim.copies[i] = -1;
	/* Its last holder may have let go, and a broker that is new does not know of it. */
	for (size_t i = 0; i < n; i++)
		settle_device(vault, addresses[i]);
	r = claim_reserve(&claim);
	if (r)
		return r;
	r = claim_inspect(&claim);
	for (size_t i = 0; i < n && !r; i++)
		r = claim_take(&claim, i);
	for (size_t i = 0; i < n && !r; i++)
		r = claim_open(&claim, i);
	if (r)
		claim_undo(&claim);
	/* The last step: from here on systemd is a holder of the cdevs as well. */
	for (size_t i = 0; i < n && !r; i++) {
		char name[BACKUP_NAME_MAX];

		device_backup_name(addresses[i], name);
		backup_put(&vault->config.backup, name, claim.devices[i]->fd);
	}
	saved = claim_end(&claim, r == 0);
	if (saved < 0) {
		wire_close(claim.copies, n);
		for (size_t i = 0; i < n; i++)
			settle_device(vault, addresses[i]);
		return saved;
	}
	if (!r)
		memcpy(ret_fds, claim.copies, n * sizeof(*ret_fds));
	return r;
}

/* ---- give back ---- */

/* The keeper's own cdev and the service manager's copy of it.  true: there was one. */
static bool device_let_go(struct vault *vault, struct device *device)
{
	char name[BACKUP_NAME_MAX];
	int r;

	if (device->fd < 0)
		return false;
	r = function_seal(vault->config.host, device->fd);
	if (r < 0) {
		/* It stays open, and so the device is not quiet: tried again. */
		keeper_log(LOG_ERR, "%s: cannot tell who has it open: %s", device->function.address,
			   strerror(-r));
		return false;
	}
	device_backup_name(device->function.address, name);
	backup_remove(&vault->config.backup, name);
	close_fd(&device->fd);
	return true;
}

/* The service manager closes its copy soon after it was told to. */
static bool device_is_quiet(struct vault *vault, struct device *device, unsigned patience)
{
	char reason[KEEPER_REASON_MAX] = "";
	int r;

	if (device->fd >= 0)
		return false;
	for (;;) {
		struct timespec pause = {.tv_nsec = 20 * 1000000};

		r = function_is_quiet(vault->config.host, &device->function, true, reason);
		if (r != KEEPER_E_BUSY || !patience--)
			break;
		nanosleep(&pause, NULL);
	}
	/* Once, however often it is asked for. */
	if (r && !device->told)
		keeper_log(LOG_INFO, "left: %s", r < 0 ? strerror(-r) : reason);
	device->told = r != 0;
	return r == 0;
}

static bool work_is_quiet(struct vault *vault, struct device *work)
{
	bool let_go = false;
	unsigned patience;

	for (struct device *device = work; device; device = device->next_work)
		if (device_let_go(vault, device))
			let_go = true;
	if (let_go)
		backup_barrier(&vault->config.backup);
	patience = let_go && vault->config.backup.fd_store ? 25 : 0;
	for (struct device *device = work; device; device = device->next_work)
		if (!device_is_quiet(vault, device, patience))
			return false;
	for (struct device *device = work; device; device = device->next_work) {
		int r = function_reset(vault->config.host, &device->function);

		if (r < 0) {
			keeper_log(LOG_ERR, "%s is not given on, its reset failed: %s",
				   device->function.address, strerror(-r));
			return false;
		}
	}
	return true;
}

/* The devices of a group, all LEFT and not busy before, busy then; NULL: not so. */
static struct device *work_begin(struct vault *vault, int group)
{
	struct device *work = NULL;

	VAULT_LOCKED(vault);
	for (struct device *device = vault->devices; device; device = device->next)
		if (device->known && device->function.group == group &&
		    (device->busy || device->state != DEVICE_LEFT))
			return NULL;
	for (struct device *device = vault->devices; device; device = device->next) {
		/* Before it is known a device is busy, and its function another's. */
		if (!device->known || device->function.group != group)
			continue;
		device->busy = true;
		device->next_work = work;
		work = device;
	}
	return work;
}

static void settle_group(struct vault *vault, int group)
{
	struct device *work = work_begin(vault, group), *next;
	bool quiet;

	if (!work)
		return;
	quiet = work_is_quiet(vault, work);
	for (struct device *device = work; device && quiet; device = device->next_work)
		device_give_back(vault, device);
	VAULT_LOCKED(vault);
	for (struct device *device = work; device; device = next) {
		next = device->next_work;
		device->busy = false;
		if (device->returned)
			vault_remove_device(vault, device);
	}
	if (quiet)
		(void)vault_save(vault);
}

/* The device's group goes back if it is LEFT and free by now. */
static void settle_device(struct vault *vault, const char *address)
{
	const struct device *device;
	int group = -1;

	pthread_mutex_lock(&vault->lock);
	device = vault_find_device(vault, address);
	if (device && device->state == DEVICE_LEFT)
		group = device->function.group;
	pthread_mutex_unlock(&vault->lock);
	if (group >= 0)
		settle_group(vault, group);
}

void vault_settle(struct vault *vault, uint64_t context)
{
	/* Groups of LEFT devices, in order of their number, each once. */
	for (int last = -1;;) {
		int group = -1;

		pthread_mutex_lock(&vault->lock);
		for (const struct device *device = vault->devices; device; device = device->next)
			if (device->state == DEVICE_LEFT &&
			    (!context || device->context == context) &&
			    device->function.group > last &&
			    (group < 0 || device->function.group < group))
				group = device->function.group;
		pthread_mutex_unlock(&vault->lock);
		if (group < 0)
			return;
		settle_group(vault, group);
		last = group;
	}
}

int vault_release(struct vault *vault, uint64_t context, const char (*addresses)[KEEPER_PCI_MAX],
		  size_t n, char *ret_reason)
{
	int groups[KEEPER_DEVICES_MAX];

	pthread_mutex_lock(&vault->lock);
	for (size_t i = 0; i < n; i++) {
		const struct device *device = vault_find_device(vault, addresses[i]);

		if (!device || device->state != DEVICE_CLAIMED || device->context != context) {
			pthread_mutex_unlock(&vault->lock);
			snprintf(ret_reason, KEEPER_REASON_MAX, "%s is not claimed for the context",
				 addresses[i]);
			return KEEPER_E_NOT_FOUND;
		}
		groups[i] = device->function.group;
	}
	for (size_t i = 0; i < n; i++)
		vault_find_device(vault, addresses[i])->state = DEVICE_LEFT;
	(void)vault_save(vault);
	pthread_mutex_unlock(&vault->lock);
	for (size_t i = 0; i < n; i++)
		settle_group(vault, groups[i]);
	return 0;
}

void vault_leave_context(struct vault *vault, uint64_t context)
{
	pthread_mutex_lock(&vault->lock);
	for (struct device *device = vault->devices; device; device = device->next)
		if (device->state == DEVICE_CLAIMED && device->context == context)
			device->state = DEVICE_LEFT;
	(void)vault_save(vault);
	pthread_mutex_unlock(&vault->lock);
	vault_settle(vault, context);
}

int vault_is_free(struct vault *vault, const char *address, char *ret_reason)
{
	struct device *device;
	host_path path;
	int r;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	r = host_exists(vault->config.host, path);
	if (r < 0)
		return r;
	settle_device(vault, address);
	VAULT_LOCKED(vault);
	device = vault_find_device(vault, address);
	if (device) {
		snprintf(ret_reason, KEEPER_REASON_MAX,
			 device->state == DEVICE_LEFT ? "%s: its last holder still has it"
						      : "%s is claimed",
			 address);
		return KEEPER_E_BUSY;
	}
	if (!r)
		snprintf(ret_reason, KEEPER_REASON_MAX, "the host has no %s", address);
	return r ? 0 : KEEPER_E_NOT_FOUND;
}
