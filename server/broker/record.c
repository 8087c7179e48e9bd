/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of each object is written down: all that restore.c needs to make it again, and no more.
 * Charges are not: they follow from the objects by the arithmetic that charged them.
 *
 * Owns nothing.  State thread.
 */
#include "server/broker/record.h"

#include "server/broker/call.h"
#include "server/broker/delegation.h"
#include "server/broker/key_table.h"
#include "server/broker/pasid.h"
#include "server/broker/tenant.h"

#include <assert.h>
#include <string.h>

static ProtobufCBinaryData bytes_of(const void *data, size_t n)
{
	return (ProtobufCBinaryData){.len = n, .data = (uint8_t *)data};
}

static ProtobufCBinaryData saved_bytes(const struct shim_saved *saved)
{
	return bytes_of(saved->bytes, saved->n);
}

static void record_claimant(Ioasid__Registry__Holder *h, const char *socket, uid_t uid, gid_t gid,
			    const struct process_id *process, const uint8_t *token)
{
	ioasid__registry__holder__init(h);
	h->socket = (char *)socket;
	h->uid = uid;
	h->gid = gid;
	h->pid = (uint32_t)process->pid;
	h->start_time = process->start_time;
	h->token = bytes_of(token, RESUME_TOKEN_SIZE);
}

void record_key(Ioasid__Registry__Key *r, const struct key_entry *entry)
{
	const struct broker_method *method = key_entry_method(entry);
	const uint8_t *bytes;
	size_t n;

	ioasid__registry__key__init(r);
	r->key = (char *)key_entry_key(entry);
	r->method = (char *)method->path;
	r->hash = key_entry_hash(entry);
	r->order = key_entry_order(entry);
	if (key_entry_answer(entry, &bytes, &n))
		r->answer = (ProtobufCBinaryData){.len = n, .data = (uint8_t *)bytes};
	else
		r->lost = true;
}

static void record_delegation(Ioasid__Registry__Delegation *r, const struct delegation *d)
{
	ioasid__registry__delegation__init(r);
	r->ioasids = d->ioasids;
	r->bytes = d->bytes;
	r->given = d->given;
}

void record_held(struct record_held *record, const struct device *device)
{
	Ioasid__Registry__Held *r = &record->held;

	ioasid__registry__held__init(r);
	r->address = (char *)device->info->address;
	r->tenant = device->charge.tenant->path;
	if (!device->delegation)
		return;
	record_delegation(&record->delegation, device->delegation);
	record->delegation.lease = device->delegation->lease;
	r->delegation = &record->delegation;
}

void record_lease(struct record_lease *record, const struct lease *lease)
{
	const struct broker_session *s = lease->holder;
	const struct lease_claimant *a = lease->awaited;
	Ioasid__Registry__Lease *r = &record->lease;

	ioasid__registry__lease__init(r);
	r->tenant = lease->tenant->path;
	if (lease->name) {
		r->name = lease->name;
		r->secret = bytes_of(lease->secret, LEASE_SECRET_SIZE);
		r->opener_socket = (char *)lease->opener_socket;
		r->opener_uid = lease->opener.uid;
	}
	r->linger_seconds = lease->linger_seconds;
	r->keep = lease->keep;
	r->handover = lease->handover;
	if (lease->limits.ioasids != UINT64_MAX || lease->limits.registered_bytes != UINT64_MAX) {
		ioasid__registry__lease_limits__init(&record->limits);
		record->limits.ioasids = lease->limits.ioasids;
		record->limits.registered_bytes = lease->limits.registered_bytes;
		r->limits = &record->limits;
	}
	if (lease->delegation) {
		record_delegation(&record->delegation, lease->delegation);
		r->delegation = &record->delegation;
	}
	/* One that is awaited gets a time of its own at every start. */
	if (lease->linger_until_us != UINT64_MAX && !a)
		r->linger_until_us = lease->linger_until_us;
	if (lease->open_key) {
		r->open_key = lease->open_key;
		r->open_hash = lease->open_hash;
	}
	/* Whom a delegation ends is known as long as there may be something to end. */
	if (lease->watch.fd >= 0 || lease->delegation) {
		ioasid__registry__watched__init(&record->watched);
		record->watched.pid = (uint32_t)lease->watched.pid;
		record->watched.start_time = lease->watched.start_time;
		r->watched = &record->watched;
	}
	if (s) {
		record_claimant(&record->holder, s->socket, s->peer.uid, s->peer.gid, &s->process,
				s->token);
		r->holder = &record->holder;
	} else if (a) {
		record_claimant(&record->holder, a->socket, a->uid, a->gid, &a->process, a->token);
		r->holder = &record->holder;
	}
	r->next_id = lease->next_id;
	r->context = saved_bytes(&lease->saved);
	r->closing = lease->state != LEASE_OPEN && !lease->leaving;
	if (r->closing && lease->closer && lease->closer->key_entry) {
		/* It cannot fail any more, and its answer says nothing. */
		record_key(&record->closer, lease->closer->key_entry);
		record->closer.lost = false;
		r->closer = &record->closer;
	}
}

void record_memory(Ioasid__Registry__Memory *r, const struct memory *m)
{
	ioasid__registry__memory__init(r);
	r->id = m->object.id.value;
	r->offset = m->offset;
	r->length = m->length;
	r->page_size = m->page_size;
	r->prot = m->prot;
	r->label = (char *)m->label;
	r->dev = m->key.dev;
	r->ino = m->key.ino;
	r->freed = !m->object.listed;
}

static void record_binding(struct record_ioasid *record, const struct binding *b)
{
	Ioasid__Registry__BoundTable *t = &record->table;
	Ioasid__Registry__BoundPasidTable *p = &record->pasid_table;

	if (b->kind == BINDING_TABLE) {
		ioasid__registry__bound_table__init(t);
		t->root = b->table.root;
		t->flags = b->table.flags;
		record->ioasid.bound_table = t;
	} else if (b->kind == BINDING_PASID_TABLE) {
		ioasid__registry__bound_pasid_table__init(p);
		p->format = b->pasid_table.format;
		p->root = b->pasid_table.root;
		p->pasid_bits = b->pasid_table.pasid_bits;
		p->shape = b->pasid_table.shape;
		record->ioasid.bound_pasid_table = p;
	}
}

void record_ioasid(struct record_ioasid *record, const struct ioasid *ioasid)
{
	Ioasid__Registry__Ioasid *r = &record->ioasid;
	const struct choice *c = &ioasid->choice;

	/* Pairs of start and last, as they lie there. */
	_Static_assert(sizeof(c->valid->ranges[0]) == 2 * sizeof(uint64_t), "ranges are pairs");
	assert(ioasid->n_devices <= RECORD_DEVICES_MAX);
	ioasid__registry__ioasid__init(r);
	r->id = ioasid->object.id.value;
	r->kind = ioasid->kind;
	r->parent = ioasid->parent ? ioasid->parent->object.id.value : 0;
	r->vm = ioasid->vm ? ioasid->vm->object.id.value : 0;
	r->pid = (uint32_t)ioasid->process.pid;
	r->start_time = ioasid->process.start_time;
	r->dirty_tracking = ioasid->dirty_tracking;
	r->faults = ioasid->faults;
	r->freed = ioasid->freed;
	r->format = c->format;
	r->input_bits = c->input_bits;
	r->output_bits = c->output_bits;
	r->enforce_snoop = c->enforce_snoop;
	r->kernel_chosen = c->kernel_chosen;
	r->execute = c->execute;
	r->write_only = c->write_only;
	r->page_sizes = c->page_sizes;
	r->valid = (uint64_t *)c->valid->ranges;
	r->n_valid = 2 * c->valid->n;
	r->devices = record->devices;
	for (uint32_t i = 0; i < ioasid->n_devices; i++)
		record->devices[r->n_devices++] = (char *)ioasid->devices[i]->info->address;
	if (ioasid->label)
		r->label = ioasid->label;
	r->choose_hint = ioasid->choose_hint;
	r->table = saved_bytes(&ioasid->saved);
	r->tracking = ioasid->tracking;
	record_binding(record, &ioasid->binding);
}

size_t record_ioasid_bound(const struct ioasid *ioasid)
{
	return 256 + 22 * ioasid->choice.valid->n + ioasid->n_devices * (SHIM_NAME_MAX + 2) +
	       (ioasid->label ? strlen(ioasid->label) : 0);
}

void record_mapping(Ioasid__Registry__Mapping *r, const struct ioasid *ioasid,
		    const struct mapping *m)
{
	ioasid__registry__mapping__init(r);
	r->ioasid = ioasid->object.id.value;
	r->iova = m->iova;
	r->length = m->length;
	r->memory = m->memory ? m->memory->object.id.value : 0;
	r->offset = m->offset;
	r->prot = m->prot;
}

void record_vm(Ioasid__Registry__Vm *r, const struct vm *vm)
{
	ioasid__registry__vm__init(r);
	r->id = vm->object.id.value;
	r->label = (char *)vm->label;
	r->freed = vm->freed;
}

void record_slot(Ioasid__Registry__Slot *r, const struct vm *vm, const struct vm_slot *slot)
{
	ioasid__registry__slot__init(r);
	r->vm = vm->object.id.value;
	r->slot = slot->number;
	r->guest_address = slot->address;
	r->size = slot->length;
	r->memory = slot->memory->object.id.value;
	r->offset = slot->offset;
	r->read_only = slot->read_only;
}

void record_attachment(Ioasid__Registry__Attachment *r, const struct attachment *a)
{
	ioasid__registry__attachment__init(r);
	r->device = (char *)a->device->info->address;
	r->pasid = a->pasid + 1;
	if (pasid_is_translated(a->ioasid->object.lease, a->pasid))
		r->physical_pasid = a->physical + 1;
	r->ioasid = a->ioasid->object.id.value;
	r->saved = saved_bytes(&a->saved);
}

void record_device(Ioasid__Registry__Device *r, const struct device *device)
{
	ioasid__registry__device__init(r);
	r->address = (char *)device->info->address;
	r->saved = saved_bytes(&device->saved);
	r->fd_given = device->fd_given;
}

char *record_tenant_path(const struct tenant *tenant)
{
	return tenant->path[0] ? (char *)tenant->path : (char *)"/";
}

bool record_tenant(struct record_tenant *record, const struct tenant *tenant)
{
	Ioasid__Registry__Tenant *r = &record->tenant;

	ioasid__registry__tenant__init(r);
	r->path = record_tenant_path(tenant);
	r->draining = tenant->draining;
	r->closes_leases = tenant->closes_leases;
	r->limits = record->pointers;
	for (unsigned q = 0; q < _QUOTA_MAX; q++) {
		Ioasid__Registry__Limit *l = &record->limits[r->n_limits];

		if (!(tenant->limits_set & UINT64_C(1) << q))
			continue;
		ioasid__registry__limit__init(l);
		l->resource = (char *)quota_resource_name(q);
		l->amount = tenant->quota.limit[q];
		record->pointers[r->n_limits++] = l;
	}
	return r->draining || r->n_limits;
}
