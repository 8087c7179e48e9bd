/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RPC_RESUME_H
#define IOASID_BROKER_RPC_RESUME_H

#include "server/broker/call.h"

/*
 * A restored lease waits for the connection that held it, at most until `until_us`, and if it
 * is a connection lease, only while the claimant's process lives.  Takes over the claimant.
 * -ESRCH: that process has ended; -errno.
 */
int lease_await(struct lease *lease, struct lease_claimant *claimant, uint64_t until_us);
/* Fine on a lease that is not awaited. */
void lease_await_no_more(struct lease *lease);

int rpc_resume(struct broker_call *call);

#endif
