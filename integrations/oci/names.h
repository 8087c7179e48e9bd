/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_NAMES_H
#define IOASID_OCI_NAMES_H

/*
 * How a container's lease is called: "oci-", its id as far as a lease may be called so, and
 * a hash of id and bundle, so that createRuntime and poststop find the same name from what
 * both are told.  Two containers may meet in one hash: whoever uses a name compares id and
 * bundle themselves.
 */

#include <stdint.h>

#define NAMES_LEASE_SIZE 96
#define NAMES_KEY_SIZE	 48

void names_lease(const char *id, const char *bundle, char ret_name[NAMES_LEASE_SIZE]);
/*
 * Idempotency key of what this run does for this very process: a container that is started
 * anew under its old name is not answered with the old one's lease.
 */
void names_key(const char *lease, const char *what, int pid, uint64_t started,
	       char ret_key[NAMES_KEY_SIZE]);

#endif
