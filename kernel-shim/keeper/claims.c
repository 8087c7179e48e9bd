/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is claimed for a context, and copies of it: how a broker that starts finds again the
 * devices of the contexts that its registry names.  Only looked up, nothing is changed and no
 * device asked; see vault_internal.h for the lock rule.
 *
 * A context that is being closed has none any more, though its devices may not be LEFT yet.
 */
#include "vault_internal.h"

#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_claimed_for(const struct device *device, uint64_t context)
{
	return device->state == DEVICE_CLAIMED && device->context == context;
}

static int take_one(struct vault *vault, uint64_t context, const char *address, char *ret_reason,
		    int *ret_fd)
{
	const struct device *device = vault_find_device(vault, address);
	int fd;

	if (!device || !is_claimed_for(device, context)) {
		snprintf(ret_reason, KEEPER_REASON_MAX, "%s is not claimed for the context",
			 address);
		return KEEPER_E_NOT_FOUND;
	}
	fd = fcntl(device->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int vault_take(struct vault *vault, uint64_t context, const char (*addresses)[KEEPER_PCI_MAX],
	       size_t n, char *ret_reason, int *ret_fds)
{
	int fds[KEEPER_DEVICES_MAX], r = 0;
	size_t n_taken = 0;

	VAULT_LOCKED(vault);
	if (!vault_find_context(vault, context)) {
		snprintf(ret_reason, KEEPER_REASON_MAX, "no context %" PRIu64, context);
		return KEEPER_E_NOT_FOUND;
	}
	while (n_taken < n && !r) {
		r = take_one(vault, context, addresses[n_taken], ret_reason, &fds[n_taken]);
		if (!r)
			n_taken++;
	}
	if (!r)
		memcpy(ret_fds, fds, n * sizeof(*fds));
	else
		wire_close(fds, n_taken);
	return r;
}

int vault_claim_next(struct vault *vault, uint64_t context, const char *after,
		     char ret_address[static KEEPER_PCI_MAX])
{
	const char *best = NULL;

	VAULT_LOCKED(vault);
	if (!vault_find_context(vault, context))
		return KEEPER_E_NOT_FOUND;
	for (const struct device *device = vault->devices; device; device = device->next) {
		const char *address = device->function.address;

		if (is_claimed_for(device, context) && strcmp(address, after) > 0 &&
		    (!best || strcmp(address, best) < 0))
			best = address;
	}
	if (!best)
		return KEEPER_E_NOT_FOUND;
	memcpy(ret_address, best, KEEPER_PCI_MAX);
	return 0;
}
