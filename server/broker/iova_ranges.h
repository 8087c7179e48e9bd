/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_IOVA_RANGES_H
#define IOASID_BROKER_IOVA_RANGES_H

#include "server/broker/state.h"

/*
 * [0, last] less the reserved ranges of some devices.  Sets that are equal are one object,
 * so that a million IOASIDs of one kind share it.
 */
/* -ENOMEM. */
int iova_ranges_make(struct broker *broker, uint64_t last, struct device *const *devices,
		     size_t n_devices, struct iova_ranges **ret_ranges);
/* From n pairs of start and last, in order; shared likewise.  -ENOMEM. */
int iova_ranges_intern(struct broker *broker, const uint64_t *pairs, size_t n,
		       struct iova_ranges **ret_ranges);
struct iova_ranges *iova_ranges_ref(struct iova_ranges *ranges);
void iova_ranges_unref(struct iova_ranges *ranges); /* NULL-safe */
/* Does one range hold all of [start, start + length)?  No wrap-around: length > 0. */
bool iova_ranges_hold(const struct iova_ranges *ranges, uint64_t start, uint64_t length);
/* Does any byte of [start, last] lie in a range? */
bool iova_ranges_touch(const struct iova_ranges *ranges, uint64_t start, uint64_t last);

#endif
