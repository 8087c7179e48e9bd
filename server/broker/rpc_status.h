/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RPC_STATUS_H
#define IOASID_BROKER_RPC_STATUS_H

#include "server/broker/call.h"

int rpc_get_status(struct broker_call *call);

#endif
