/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_INVALIDATE_H
#define IOASID_BROKER_INVALIDATE_H

#include "server/broker/call.h"

int rpc_invalidate(struct broker_call *call);

#endif
