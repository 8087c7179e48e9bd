/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DEVICE_H
#define IOASID_BROKER_DEVICE_H

#include "server/broker/call.h"

/* Takes over the shim's inventory.  -ENOMEM. */
int devices_create(struct broker *broker);
void devices_destroy(struct broker *broker);
/* NULL: the host has no such device. */
struct device *device_find(struct broker *broker, const char *address);
/* Does policy let the tenant have it?  tenant NULL: everything. */
bool device_is_allowed(const struct device *device, const struct tenant *tenant,
		       struct policy_verdict *ret_verdict);
/* A lease closes: its devices are given to no one until device_reap(). */
void devices_mark_revoking(struct lease *lease);
/* Within an op: ends its DMA, gives it back to the shim and asks whether it is free. */
void device_let_go(struct device *device);
/*
 * The device's DMA is over and its attachments are gone: charges back, free for others; or
 * held, while the shim says that it is not free.
 */
void device_reap(struct device *device);

int rpc_list_devices(struct broker_call *call);
int rpc_get_device(struct broker_call *call);
int rpc_claim_device(struct broker_call *call);
int rpc_release_device(struct broker_call *call);

#endif
