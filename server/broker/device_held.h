/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DEVICE_HELD_H
#define IOASID_BROKER_DEVICE_HELD_H

#include "server/broker/state.h"

/* The device has left its lease and the shim says that it is not free yet. */
void device_hold(struct broker *broker, struct device *device);
/* Looks again when it is time; lowers *next_us to when that is. */
void devices_held_tick(struct broker *broker, uint64_t now_us, uint64_t *next_us);
/* The broker ends: what is held is left to the shim, and nobody is charged any more. */
void devices_held_forget(struct broker *broker);

#endif
