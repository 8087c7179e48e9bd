/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_GRANT_H
#define KUBERNETES_GRANT_H

/*
 * Leases for containers, at the broker: this plugin is an agent there and names the tenant of
 * each.  Every step has a connection of its own, which lets go of the lease when it ends, so
 * that the container's program can hold it.  Blocks for up to half a minute; any thread.
 */

#include "record.h"

enum grant_error {
	/* The broker refuses; the problem is its text. */
	GRANT_E_REFUSED = 1,
};

#define GRANT_PROBLEM_SIZE 1024

/*
 * Opens the record's lease with its key and claims its devices.  On success the record has the
 * secret.  On failure the lease may be there all the same: grant_close().  -errno: the broker
 * could not be asked, or its answer did not come.
 */
int grant_open(const char *broker, struct record *record, char problem[GRANT_PROBLEM_SIZE]);
/* The lease is gone, with all that was in it; 0 also if there was none. */
int grant_close(const char *broker, const struct record *record, char problem[GRANT_PROBLEM_SIZE]);

/*
 * The lease lasts linger_seconds from now: it is held for a moment, as the tenant's programs hold
 * it, by the tenant's own socket.  The agent would take it from a program that has come meanwhile;
 * so it is that program's, and this call's failure.
 */
int grant_renew(const struct record *record, char problem[GRANT_PROBLEM_SIZE]);

/* Which leases of a tenant are there. */
int grant_list(const char *broker, const char *tenant, struct ioasid_leases **ret_leases,
	       char problem[GRANT_PROBLEM_SIZE]);

#endif
