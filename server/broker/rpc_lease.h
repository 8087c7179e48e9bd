/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RPC_LEASE_H
#define IOASID_BROKER_RPC_LEASE_H

#include "server/broker/call.h"

int rpc_open_lease(struct broker_call *call);
int rpc_adopt_lease(struct broker_call *call);
int rpc_close_lease(struct broker_call *call);
int rpc_list_leases(struct broker_call *call);
/* As the call's role may see it; NULL: out of memory. */
Ioasid__V1__Lease *lease_describe(struct broker_call *call, const struct lease *lease);
/* Finishes the call when the lease has ended; CALL_PENDING, or an outcome. */
int lease_close_and_wait(struct broker_call *call, struct lease *lease, const char *why);

#endif
