/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RPC_ADMIN_H
#define IOASID_BROKER_RPC_ADMIN_H

#include "server/broker/call.h"

int rpc_list_tenants(struct broker_call *call);
int rpc_set_limits(struct broker_call *call);
int rpc_reload_policy(struct broker_call *call);
int rpc_drain_tenant(struct broker_call *call);
int rpc_revoke(struct broker_call *call);
int rpc_list_objects(struct broker_call *call);

#endif
