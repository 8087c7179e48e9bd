/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RPC_QUOTA_H
#define IOASID_BROKER_RPC_QUOTA_H

#include "server/broker/call.h"

int rpc_get_quota(struct broker_call *call);
int rpc_explain_quota(struct broker_call *call);
/*
 * Every resource of a tenant; unused: also those that it neither limits nor uses.  False:
 * out of memory.
 */
bool usage_describe(struct scratch *scratch, const struct tenant *tenant, bool unused,
		    size_t *ret_n, Ioasid__V1__ResourceUsage ***ret_resources);

#endif
