/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RECORD_H
#define IOASID_BROKER_RECORD_H

/*
 * Objects of the broker as records of the registry.  A record borrows from its object and from
 * the struct that it is filled into; it is packed before either changes.  What the shim wants
 * to know again was asked when the object was made: a worker may be at it now.
 */

#include "server/broker/state.h"

#define RECORD_DEVICES_MAX 64

struct key_entry;

struct record_lease {
	Ioasid__Registry__Lease lease;
	Ioasid__Registry__Delegation delegation;
	Ioasid__Registry__LeaseLimits limits;
	Ioasid__Registry__Holder holder;
	Ioasid__Registry__Watched watched;
	Ioasid__Registry__Key closer;
};
void record_lease(struct record_lease *record, const struct lease *lease);
void record_key(Ioasid__Registry__Key *record, const struct key_entry *entry);

void record_memory(Ioasid__Registry__Memory *record, const struct memory *memory);

struct record_ioasid {
	Ioasid__Registry__Ioasid ioasid;
	Ioasid__Registry__BoundTable table;
	Ioasid__Registry__BoundPasidTable pasid_table;
	char *devices[RECORD_DEVICES_MAX];
};
void record_ioasid(struct record_ioasid *record, const struct ioasid *ioasid);

void record_mapping(Ioasid__Registry__Mapping *record, const struct ioasid *ioasid,
		    const struct mapping *mapping);

void record_vm(Ioasid__Registry__Vm *record, const struct vm *vm);
void record_slot(Ioasid__Registry__Slot *record, const struct vm *vm, const struct vm_slot *slot);
void record_attachment(Ioasid__Registry__Attachment *record, const struct attachment *attachment);
void record_device(Ioasid__Registry__Device *record, const struct device *device);

struct record_held {
	Ioasid__Registry__Held held;
	Ioasid__Registry__Delegation delegation;
};
void record_held(struct record_held *record, const struct device *device);

/* Limits that are not the policy's, QUOTA resources at most. */
struct record_tenant {
	Ioasid__Registry__Tenant tenant;
	Ioasid__Registry__Limit limits[_QUOTA_MAX];
	Ioasid__Registry__Limit *pointers[_QUOTA_MAX];
};
/* Its path in the registry: "/" is the host's, which is empty. */
char *record_tenant_path(const struct tenant *tenant);
/* False: it is as the policy says, there is nothing to record. */
bool record_tenant(struct record_tenant *record, const struct tenant *tenant);

/* Most bytes that the record of one object takes in a batch. */
#define RECORD_LEASE_BOUND	1024
#define RECORD_MEMORY_BOUND	192
#define RECORD_MAPPING_BOUND	64
#define RECORD_ATTACHMENT_BOUND 128
#define RECORD_DEVICE_BOUND	128
#define RECORD_DROP_BOUND	96
#define RECORD_VM_BOUND		128
#define RECORD_SLOT_BOUND	96
#define RECORD_TENANT_BOUND	1536
size_t record_ioasid_bound(const struct ioasid *ioasid);

#endif
