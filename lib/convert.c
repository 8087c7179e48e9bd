/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several families share.  Enumerations are copied by number: names.c proves that the
 * numbers are the same.
 */
#include "convert.h"
#include "ioasid.h"

#include "ioasid.pb-c.h"

#include <string.h>

const void *convert_optional(struct result *result, const void *message, size_t size,
			     void (*convert)(struct result *, const void *, void *))
{
	void *item = message ? result_alloc(result, 1, size) : NULL;

	if (item)
		convert(result, message, item);
	return item;
}

void convert_range(struct result *result, const void *message, void *ret_range)
{
	const Ioasid__V1__AddressRange *from = message;
	struct ioasid_address_range *to = ret_range;

	to->start = from->start;
	to->last = from->last;
	to->use = from->use;
}

void convert_fault(struct result *result, const void *message, void *ret_fault)
{
	const Ioasid__V1__Fault *from = message;
	struct ioasid_fault *to = ret_fault;

	to->cause = (enum ioasid_fault_cause)from->cause;
	to->stage = from->stage;
	to->level = from->level;
	to->address = from->address;
	to->entry = from->entry;
	to->access = (enum ioasid_access)from->access;
}

void convert_attachment(struct result *result, const void *message, void *ret_attachment)
{
	const Ioasid__V1__Attachment *from = message;
	struct ioasid_attachment *to = ret_attachment;

	to->device = from->device;
	to->pasid = from->pasid ? from->pasid->value : IOASID_NO_PASID;
	to->ioasid = from->ioasid;
}

void convert_memory(struct result *result, const void *message, void *ret_memory)
{
	const Ioasid__V1__Memory *from = message;
	struct ioasid_memory *to = ret_memory;

	to->id = from->memory;
	to->length = from->length;
	to->page_size = from->page_size;
	to->flags = (from->read ? IOASID_READ : 0) | (from->write ? IOASID_WRITE : 0);
	to->label = from->label;
	to->mappings = from->mappings;
}

static uint64_t lease_limit(const Ioasid__V1__Lease *lease, const char *resource)
{
	for (size_t i = 0; i < lease->n_limits; i++)
		if (!strcmp(lease->limits[i]->resource, resource))
			return lease->limits[i]->amount;
	return UINT64_MAX;
}

void convert_lease(struct result *result, const void *message, void *ret_lease)
{
	const Ioasid__V1__Lease *from = message;
	struct ioasid_lease *to = ret_lease;

	to->name = from->name;
	to->tenant = from->tenant;
	to->mine = from->mine;
	to->held = from->held;
	to->closing = from->closing;
	to->linger_seconds = from->linger_seconds;
	to->ioasids = from->ioasids;
	to->memories = from->memories;
	to->devices = from->devices;
	to->attachments = from->attachments;
	to->uid = from->uid;
	to->pid = from->pid;
	to->serial = from->serial;
	to->awaited = from->awaited;
	to->keep = from->keep;
	to->handover = from->handover;
	to->delegate = from->delegate;
	to->max_ioasids = lease_limit(from, LEASE_IOASIDS);
	to->max_registered_bytes = lease_limit(from, LEASE_REGISTERED_BYTES);
}

void convert_usage(struct result *result, const void *message, void *ret_usage)
{
	const Ioasid__V1__ResourceUsage *from = message;
	struct ioasid_resource_usage *to = ret_usage;

	to->resource = from->resource;
	to->limit = from->limit;
	to->reserved = from->reserved;
	to->used = from->used;
	to->own = from->own;
	to->peak = from->peak;
	to->refused_local = from->refused_local;
	to->refused = from->refused;
}
