/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poststop: the lease is closed, from whoever holds it, and the folder goes.  Of the state
 * only id and bundle are used.  Without a broker the folder stays, and a later run removes it;
 * the lease, if there is one, ends with the container's init.
 */
#include "integrations/oci/stages.h"

#include "integrations/oci/config.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/lease.h"
#include "integrations/oci/state.h"

#include <errno.h>
#include <string.h>

static int end(const struct config *config, const struct state *state, const struct folder *folder)
{
	_cleanup_client_ struct ioasid_client *client = NULL;
	struct record record = {};
	int r = folder_read(folder, &record);

	/* An earlier run ended before it wrote anything: it had no lease. */
	if (r == -ENOENT)
		return folder_remove(folder);
	if (r < 0)
		return r;
	/* Of another container with the same hash: this one has nothing. */
	if (strcmp(record.id, state->id) || strcmp(record.bundle, state->bundle)) {
		record_deinit(&record);
		return 0;
	}
	if (record.has_secret) {
		r = lease_connect(config, &client);
		if (!r)
			r = lease_end(client, folder->name, &record);
	}
	record_deinit(&record);
	return r < 0 ? r : folder_remove(folder);
}

int poststop_run(const struct config *config, const struct state *state)
{
	struct folder folder = FOLDER_NONE;
	char name[NAMES_LEASE_SIZE];
	int r;

	names_lease(state->id, state->bundle, name);
	r = folder_open(config, name, false, false, &folder);
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = end(config, state, &folder);
	folder_close(&folder);
	return r;
}
