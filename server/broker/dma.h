/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DMA_H
#define IOASID_BROKER_DMA_H

#include "server/broker/call.h"

int rpc_device_dma(struct broker_call *call);

#endif
