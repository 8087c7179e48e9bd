/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_STAGES_H
#define IOASID_OCI_STAGES_H

/* The two things that the hook does, and what it does besides. */

struct ask;
struct config;
struct ioasid_client;
struct state;

/*
 * createRuntime and prestart.  stage: which, as config.json calls it; asked: what this call's
 * own arguments ask for.  All of it or nothing.
 */
int create_run(const struct config *config, const struct state *state, const char *stage,
	       struct ask *asked);
/* poststop.  Nothing there: done. */
int poststop_run(const struct config *config, const struct state *state);
/*
 * Removes the folders of containers that ended without poststop, and whose leases have.  Never
 * fails: what is not removed now is the next run's.
 */
void clean_run(const struct config *config, struct ioasid_client *client, const char *own);

#endif
