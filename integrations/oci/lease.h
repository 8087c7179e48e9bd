/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_LEASE_H
#define IOASID_OCI_LEASE_H

/* What the hook asks the broker for.  Always as an agent, and always in the tenant's name. */

#include "integrations/oci/folder.h"

struct config;
struct init;

/* Tries for as long as the configuration says: a broker that is restarted is soon back. */
int lease_connect(const struct config *config, struct ioasid_client **ret_client);
static inline void client_unrefp(struct ioasid_client **client)
{
	ioasid_client_unref(*client);
}
#define _cleanup_client_ __attribute__((cleanup(client_unrefp)))

/*
 * Holds the container's lease: the one of the record if it is there, else a new one, whose
 * secret goes into the record.  wanted has the limits.
 */
int lease_take(struct ioasid_client *client, const struct config *config, const char *name,
	       const struct init *init, const struct ask *wanted, struct record *record);
/* Those of wanted that the record has not, together; then they are in the record. */
int lease_claim(struct ioasid_client *client, const char *name, const struct ask *wanted,
		struct record *record);
/* From whoever holds it.  That it is not there is what is wanted. */
int lease_end(struct ioasid_client *client, const char *name, const struct record *record);
int lease_exists(struct ioasid_client *client, const char *tenant, const char *name,
		 bool *ret_exists);

#endif
