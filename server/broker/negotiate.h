/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_NEGOTIATE_H
#define IOASID_BROKER_NEGOTIATE_H

#include "server/broker/call.h"

#define NEGOTIATE_DEVICES_MAX	 64
#define NEGOTIATE_CANDIDATES_MAX 32

/* What an Alloc request means, and the format that fits it. */
struct negotiation {
	enum shim_kind kind;
	struct vm *vm;	       /* kind KVM */
	struct ioasid *parent; /* NULL: a root */
	uint8_t depth;
	struct device *devices[NEGOTIATE_DEVICES_MAX]; /* named in the request */
	size_t n_devices;
	/* Devices that the format must suit: the named ones, or all that the tenant may have. */
	struct device **suited;
	size_t n_suited;
	struct choice choice; /* choice.valid is a reference of its own */
	Ioasid__V1__Refusal **passed_over;
	size_t n_passed_over;
};

/*
 * Checks the request and chooses.  An outcome; on OUTCOME_OK the caller gives
 * negotiation->choice.valid back.
 */
int negotiate(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
	      struct negotiation *ret_negotiation);
/*
 * Whether the tenant may have the kind, and has a device that could: what Alloc would refuse
 * before it looks at anything else.  An outcome.
 */
int negotiate_kind(struct broker_call *call, enum shim_kind kind);
/* The choice in the API's form; NULL: out of memory. */
Ioasid__V1__Choice *choice_describe(struct scratch *scratch, const struct choice *choice);
/* What a device's IOMMU can do with a format; NULL: nothing. */
const struct shim_format_cap *device_format(const struct device *device, enum shim_format format);
/* Bits; the narrowest table that a tenant may write in a format. */
unsigned table_bits_least(const struct shim_format_cap *cap);
/* Why the device reads no tenant's table of so many bits in that format; NULL: it does. */
const char *device_table_obstacle(struct scratch *scratch, const struct device *device,
				  const struct shim_format_cap *cap, unsigned bits);
/* Why the device cannot be below (ioasid of) that format and depth; NULL: it can. */
const char *device_nesting_obstacle(struct scratch *scratch, const struct device *device,
				    const struct ioasid *parent, unsigned depth);

#endif
