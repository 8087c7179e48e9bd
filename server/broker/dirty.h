/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DIRTY_H
#define IOASID_BROKER_DIRTY_H

#include "server/broker/call.h"

int rpc_set_dirty_tracking(struct broker_call *call);
int rpc_read_dirty_bitmap(struct broker_call *call);

#endif
