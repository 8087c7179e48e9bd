/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenLease with the key of the first time has the first time's answer, secret included: that
 * is how a lease is found again whose answer was lost.
 */
#include "grant.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 20000
#define CONNECT_MS 2000

static void auto_client(struct ioasid_client **client)
{
	ioasid_client_unref(*client);
}
static void auto_error(struct ioasid_error **error)
{
	ioasid_error_free(*error);
}
#define AUTO_CLIENT __attribute__((cleanup(auto_client)))
#define AUTO_ERROR  __attribute__((cleanup(auto_error)))

static int explain(int r, const struct ioasid_error *error, char problem[GRANT_PROBLEM_SIZE])
{
	snprintf(problem, GRANT_PROBLEM_SIZE, "%s", error->message);
	if (error->origin == IOASID_ORIGIN_BROKER && !ioasid_error_is_retryable(error))
		return GRANT_E_REFUSED;
	return r;
}

static int broker_connect(const char *socket, struct ioasid_client **ret_client,
			  struct ioasid_error **ret_error)
{
	const struct ioasid_options options = {
		.timeout_ms = TIMEOUT_MS,
		.connect_timeout_ms = CONNECT_MS,
		.reconnect_ms = IOASID_NO_RECONNECT,
	};

	return ioasid_connect(socket, &options, ret_client, ret_error);
}

static int lease_open(struct ioasid_client *client, const struct record *record,
		      uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE], struct ioasid_error **ret_error)
{
	const struct ioasid_scope scope = {
		.tenant = record->tenant,
		.key = record->key,
	};
	struct ioasid_lease_options options = IOASID_LEASE_OPTIONS_INIT;

	options.linger_seconds = record->linger_seconds;
	options.handover = true;
	options.max_ioasids = record->max_ioasids;
	options.max_registered_bytes = record->max_registered_bytes;
	return ioasid_lease_open_with(client, &scope, record->lease, &options, ret_secret,
				      ret_error);
}

int grant_open(const char *broker, struct record *record, char problem[GRANT_PROBLEM_SIZE])
{
	const struct ioasid_scope scope = {
		.tenant = record->tenant,
		.lease = record->lease,
	};
	AUTO_CLIENT struct ioasid_client *client = NULL;
	AUTO_ERROR struct ioasid_error *error = NULL;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	int r = broker_connect(broker, &client, &error);

	if (!r)
		r = lease_open(client, record, secret, &error);
	if (!r) {
		memcpy(record->secret, secret, sizeof(secret));
		record->has_secret = true;
	}
	if (!r && record->n_devices)
		r = ioasid_claim(client, &scope, (const char *const *)record->devices,
				 record->n_devices, NULL, &error);
	return r ? explain(r, error, problem) : 0;
}

/* The agent holds the lease, or there is none (*ret_gone). */
static int lease_take(struct ioasid_client *client, const struct record *record, bool *ret_gone,
		      struct ioasid_error **ret_error)
{
	const struct ioasid_scope scope = {.tenant = record->tenant};
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	AUTO_ERROR struct ioasid_error *error = NULL;
	int r;

	if (record->has_secret)
		r = ioasid_lease_adopt(client, &scope, record->lease, record->secret, &error);
	else
		r = lease_open(client, record, secret, &error);
	/* What refuses to open it now has not opened it before, or that would have been found. */
	if (r && error->origin == IOASID_ORIGIN_BROKER && !ioasid_error_is_retryable(error) &&
	    (!record->has_secret || ioasid_error_is_not_found(error))) {
		*ret_gone = true;
		return 0;
	}
	if (r) {
		*ret_error = error;
		error = NULL;
	}
	return r;
}

int grant_close(const char *broker, const struct record *record, char problem[GRANT_PROBLEM_SIZE])
{
	const struct ioasid_scope scope = {
		.tenant = record->tenant,
		.lease = record->lease,
	};
	AUTO_CLIENT struct ioasid_client *client = NULL;
	AUTO_ERROR struct ioasid_error *error = NULL;
	bool gone = false;
	int r = broker_connect(broker, &client, &error);

	if (!r)
		r = lease_take(client, record, &gone, &error);
	if (!r && !gone)
		r = ioasid_lease_close(client, &scope, &error);
	return r ? explain(r, error, problem) : 0;
}

int grant_renew(const struct record *record, char problem[GRANT_PROBLEM_SIZE])
{
	AUTO_CLIENT struct ioasid_client *client = NULL;
	AUTO_ERROR struct ioasid_error *error = NULL;
	int r = broker_connect(record->socket, &client, &error);

	if (!r)
		r = ioasid_lease_adopt(client, NULL, record->lease, record->secret, &error);
	return r ? explain(r, error, problem) : 0;
}

int grant_list(const char *broker, const char *tenant, struct ioasid_leases **ret_leases,
	       char problem[GRANT_PROBLEM_SIZE])
{
	const struct ioasid_scope scope = {.tenant = tenant};
	AUTO_CLIENT struct ioasid_client *client = NULL;
	AUTO_ERROR struct ioasid_error *error = NULL;
	int r = broker_connect(broker, &client, &error);

	if (!r)
		r = ioasid_lease_list(client, &scope, ret_leases, &error);
	return r ? explain(r, error, problem) : 0;
}
