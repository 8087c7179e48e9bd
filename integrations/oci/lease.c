/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See lease.h.  The lease ends with the container's init, whether or not poststop is ever
 * called; until then it survives without a holder, so that it is there when the hook has gone
 * and the container's program has not come yet.
 */
#include "integrations/oci/lease.h"

#include "integrations/oci/config.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/init.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS 20

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int lease_connect(const struct config *config, struct ioasid_client **ret_client)
{
	const struct ioasid_options options = {
		.timeout_ms = config->timeout_ms,
		.connect_timeout_ms = config->timeout_ms,
		.reconnect_ms = config->timeout_ms,
	};
	uint64_t end = now_ms() + config->timeout_ms;

	for (;;) {
		struct ioasid_error *error = NULL;
		int r = ioasid_connect(config->socket, &options, ret_client, &error);

		if (!r)
			return 0;
		if (!ioasid_error_is_no_server(error) || ioasid_error_is_denied(error) ||
		    now_ms() >= end)
			return hook_fail_broker(error, "the broker ioasidd does not answer");
		ioasid_error_free(error);
		usleep(PAUSE_MS * 1000);
	}
}

static int adopt(struct ioasid_client *client, const char *name, const struct record *record,
		 struct ioasid_error **ret_error)
{
	const struct ioasid_scope scope = {
		.tenant = record->ask.tenant,
		.flags = IOASID_SCOPE_RETRY,
	};

	return ioasid_lease_adopt(client, &scope, name, record->secret, ret_error);
}

/* The last container of this name may have just ended, and its lease with it soon. */
static int open_new(struct ioasid_client *client, const struct config *config, const char *name,
		    const struct init *init, const struct ask *wanted, struct record *record)
{
	struct ioasid_lease_options options = IOASID_LEASE_OPTIONS_INIT;
	uint64_t end = now_ms() + config->timeout_ms;
	char key[NAMES_KEY_SIZE];
	struct ioasid_scope scope = {
		.tenant = record->ask.tenant,
		.key = key,
		.flags = IOASID_SCOPE_RETRY,
	};

	names_key(name, "open", init->pid, init->started, key);
	options.pidfd = init->pidfd;
	options.keep = true;
	options.handover = true;
	options.max_ioasids = wanted->max_ioasids;
	options.max_registered_bytes = wanted->max_bytes;
	for (;;) {
		struct ioasid_error *error = NULL;
		int r = ioasid_lease_open_with(client, &scope, name, &options, record->secret,
					       &error);

		if (!r) {
			record->has_secret = true;
			return 0;
		}
		if (strcmp(error->reason, "NAME_TAKEN") || now_ms() >= end)
			return hook_fail_broker(error, "tenant %s: no lease for the container",
						record->ask.tenant);
		ioasid_error_free(error);
		usleep(PAUSE_MS * 1000);
	}
}

int lease_take(struct ioasid_client *client, const struct config *config, const char *name,
	       const struct init *init, const struct ask *wanted, struct record *record)
{
	struct ioasid_error *error = NULL;
	int r;

	if (record->has_secret) {
		r = adopt(client, name, record, &error);
		if (!r)
			return 0;
		if (!ioasid_error_is_not_found(error))
			return hook_fail_broker(error, "tenant %s: the container's lease",
						record->ask.tenant);
		ioasid_error_free(error);
		/* A broker without registry was restarted. */
		record->ask.n_devices = 0;
		record->has_secret = false;
	}
	return open_new(client, config, name, init, wanted, record);
}

static bool has_device(const struct ask *ask, const char *device)
{
	for (size_t i = 0; i < ask->n_devices; i++)
		if (!strcmp(ask->devices[i], device))
			return true;
	return false;
}

int lease_claim(struct ioasid_client *client, const char *name, const struct ask *wanted,
		struct record *record)
{
	char key[NAMES_KEY_SIZE];
	const struct ioasid_scope scope = {
		.tenant = record->ask.tenant,
		.lease = name,
		.key = key,
		.flags = IOASID_SCOPE_RETRY,
	};
	char text[ASK_DEVICES_MAX * (ASK_DEVICE_SIZE + 2)] = "";
	const char *missing[ASK_DEVICES_MAX];
	struct ioasid_error *error = NULL;
	size_t n = 0, used = 0;

	for (size_t i = 0; i < wanted->n_devices; i++) {
		if (has_device(&record->ask, wanted->devices[i]))
			continue;
		missing[n++] = wanted->devices[i];
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
					 n > 1 ? ", " : "", wanted->devices[i]);
	}
	if (!n)
		return 0;
	/* A run that was killed before it could write down what it had claimed. */
	names_key(name, text, record->pid, record->started, key);
	if (ioasid_claim(client, &scope, missing, n, NULL, &error) < 0)
		return hook_fail_broker(error, "tenant %s: cannot claim %s", record->ask.tenant,
					text);
	for (size_t i = 0; i < n; i++)
		ask_add_devices(&record->ask, "devices", missing[i]);
	return 0;
}

int lease_end(struct ioasid_client *client, const char *name, const struct record *record)
{
	const struct ioasid_scope scope = {
		.tenant = record->ask.tenant,
		.lease = name,
		.flags = IOASID_SCOPE_RETRY,
	};
	struct ioasid_error *error = NULL;
	int r = adopt(client, name, record, &error);

	if (!r)
		r = ioasid_lease_close(client, &scope, &error);
	if (!r)
		return 0;
	if (!ioasid_error_is_not_found(error) && !ioasid_error_is_lease_lost(error))
		return hook_fail_broker(error, "tenant %s: cannot close the container's lease %s",
					record->ask.tenant, name);
	ioasid_error_free(error);
	return 0;
}

static void leases_freep(struct ioasid_leases **leases)
{
	ioasid_leases_free(*leases);
}

int lease_exists(struct ioasid_client *client, const char *tenant, const char *name,
		 bool *ret_exists)
{
	__attribute__((cleanup(leases_freep))) struct ioasid_leases *leases = NULL;
	const struct ioasid_scope scope = {.tenant = tenant, .flags = IOASID_SCOPE_RETRY};
	struct ioasid_error *error = NULL;
	bool exists = false;

	if (ioasid_lease_list(client, &scope, &leases, &error) < 0)
		return hook_fail_broker(error, "tenant %s: its leases", tenant);
	for (size_t i = 0; i < leases->n; i++)
		exists |= !strcmp(leases->items[i]->name, name) &&
			  !strcmp(leases->items[i]->tenant, tenant);
	*ret_exists = exists;
	return 0;
}
