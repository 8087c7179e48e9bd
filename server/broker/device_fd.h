/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DEVICE_FD_H
#define IOASID_BROKER_DEVICE_FD_H

#include "server/broker/call.h"

int rpc_get_device_fd(struct broker_call *call);

#endif
