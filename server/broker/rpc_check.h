/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RPC_CHECK_H
#define IOASID_BROKER_RPC_CHECK_H

#include "server/broker/call.h"

int rpc_check(struct broker_call *call);

#endif
