/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DEVICE_DESCRIBE_H
#define IOASID_BROKER_DEVICE_DESCRIBE_H

#include "server/broker/call.h"

/*
 * A device as the caller may see it, in the call's scratch; NULL: out of memory.  Companions
 * and holders that are not the caller's business are left out.
 */
Ioasid__V1__Device *device_describe(struct broker_call *call, const struct device *device,
				    bool with_capabilities);

#endif
