/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that lives, into a new log: when the broker starts, and when the log has grown
 * to a multiple of that.
 *
 * Owns the cursor.  A slice writes SLICE records and then lets others have their turn; what
 * changes meanwhile goes into both logs (registry.h), so an object that the cursor has passed
 * is written again when it changes, and one that it has not reached is written as it is then.
 * A reader needs no more than that a put replaces and a drop of the unknown is nothing.
 *
 * Invariant: a lease whose end is written is not written again.  State thread.
 */
#include "server/broker/compact.h"

#include "server/broker/attachment.h"
#include "server/broker/call.h"
#include "server/broker/device.h"
#include "server/broker/event.h"
#include "server/broker/fault_point.h"
#include "server/broker/journal.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"
#include "server/broker/mapping.h"
#include "server/broker/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define SLICE 512
/* Records of one batch: the frame around them is then small against them. */
#define BATCH 64
/* Between two beginnings. */
#define AGAIN_US UINT64_C(1000000)

struct compact_cursor {
	struct op op;
	bool running;
	int result;
	struct lease *lease; /* NULL: the end */
	bool in_lease;	     /* its own record is written */
	uint64_t object;     /* id of the last one written */
	bool in_mappings;    /* of that object; of a VM: slots */
	uint64_t iova;	     /* to go on from; of a VM: the slot */
	unsigned budget;
	uint64_t again_us; /* not begun before */
	struct record_ioasid ioasids[BATCH];
};

int compact_cursor_new(struct compact_cursor **ret_cursor)
{
	struct compact_cursor *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	*ret_cursor = c;
	return 0;
}

void compact_cursor_free(struct compact_cursor *cursor)
{
	free(cursor);
}

static void append(struct broker *broker, uint64_t lease, const Ioasid__Registry__Batch *batch)
{
	struct compact_cursor *c = broker->compaction;

	if (!c->result)
		c->result = registry_append_new(broker->registry, lease, batch);
}

static void spend(struct compact_cursor *c, size_t n)
{
	c->budget -= n < c->budget ? n : c->budget;
}

/* ---- what belongs to no lease ---- */

static void write_broker(struct broker *broker)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Broker record = IOASID__REGISTRY__BROKER__INIT;

	record.last_serial = broker->last_serial;
	record.event_sequence = broker->events_written;
	batch.broker = &record;
	append(broker, 0, &batch);
}

static void write_tenants(struct broker *broker)
{
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
		Ioasid__Registry__Tenant *records;
		struct record_tenant record;

		if (!record_tenant(&record, t))
			continue;
		records = &record.tenant;
		batch.tenants = &records;
		batch.n_tenants = 1;
		append(broker, 0, &batch);
	}
}

static void write_held(struct broker *broker)
{
	struct device *d;

	TAILQ_FOREACH(d, &broker->held, link)
	{
		Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
		Ioasid__Registry__Held *records;
		struct record_held record;

		record_held(&record, d);
		records = &record.held;
		batch.held = &records;
		batch.n_held = 1;
		append(broker, 0, &batch);
	}
}

static void write_keys(struct broker *broker, uint64_t lease, const struct key_table *keys)
{
	for (const struct key_entry *e = key_table_oldest(keys); e; e = key_entry_newer(e)) {
		Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
		Ioasid__Registry__Key record, *records = &record;
		const struct broker_method *method = key_entry_method(e);

		if (!key_entry_is_settled(e) || method->flags & METHOD_TRANSIENT)
			continue;
		record_key(&record, e);
		batch.keys = &records;
		batch.n_keys = 1;
		append(broker, lease, &batch);
	}
}

/* ---- leases ---- */

static void write_lease(struct broker *broker, struct lease *lease)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	struct broker_call *active = lease->active;
	struct record_lease record;

	record_lease(&record, lease);
	batch.lease = &record.lease;
	if (active && active->intent_open)
		batch.intent = &active->intent;
	append(broker, lease->serial, &batch);
	write_keys(broker, lease->serial, lease->keys);
}

static void write_devices(struct broker *broker, struct lease *lease)
{
	struct device *d;

	TAILQ_FOREACH(d, &lease->devices, link)
	{
		Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
		Ioasid__Registry__Device record, *records = &record;

		if (!d->bound)
			continue;
		record_device(&record, d);
		batch.devices = &records;
		batch.n_devices = 1;
		append(broker, lease->serial, &batch);
	}
}

static void write_attachments(struct broker *broker, struct lease *lease)
{
	struct attachment *a;

	for (a = attachment_first(lease); a; a = attachment_next(lease, a)) {
		Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
		Ioasid__Registry__Attachment record, *records = &record;

		record_attachment(&record, a);
		batch.attachments = &records;
		batch.n_attachments = 1;
		append(broker, lease->serial, &batch);
	}
}

/* The next piece; false: there is no more. */
static bool write_mappings(struct broker *broker, struct lease *lease, struct ioasid *ioasid)
{
	struct compact_cursor *c = broker->compaction;
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Mapping records[BATCH], *pointers[BATCH];
	struct mapping *m = mapping_not_before(ioasid, c->iova);

	batch.mappings = pointers;
	for (; m && batch.n_mappings < BATCH; m = mapping_next(ioasid, m)) {
		if (!m->published)
			continue;
		record_mapping(&records[batch.n_mappings], ioasid, m);
		pointers[batch.n_mappings] = &records[batch.n_mappings];
		batch.n_mappings++;
	}
	if (batch.n_mappings)
		append(broker, lease->serial, &batch);
	spend(c, batch.n_mappings + 1);
	if (m)
		c->iova = m->iova;
	return m != NULL;
}

/* Likewise of a VM. */
static bool write_slots(struct broker *broker, struct lease *lease, struct vm *vm)
{
	struct compact_cursor *c = broker->compaction;
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Slot records[BATCH], *pointers[BATCH];
	struct vm_slot *s = vm_slot_not_before(vm, (uint32_t)c->iova);

	batch.slots = pointers;
	for (; s && batch.n_slots < BATCH; s = vm_slot_next(s)) {
		record_slot(&records[batch.n_slots], vm, s);
		pointers[batch.n_slots] = &records[batch.n_slots];
		batch.n_slots++;
	}
	if (batch.n_slots)
		append(broker, lease->serial, &batch);
	spend(c, batch.n_slots + 1);
	if (s)
		c->iova = s->number;
	return s != NULL;
}

static struct vm *as_vm(struct object *o)
{
	return o->type == OBJECT_VM ? CONTAINER_OF(o, struct vm, object) : NULL;
}

static struct ioasid *as_ioasid(struct object *o)
{
	return o->type == OBJECT_IOASID ? CONTAINER_OF(o, struct ioasid, object) : NULL;
}

static void write_objects(struct broker *broker, struct lease *lease)
{
	struct compact_cursor *c = broker->compaction;
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Memory memories[BATCH], *memory_pointers[BATCH];
	Ioasid__Registry__Ioasid *ioasid_pointers[BATCH];
	struct record_ioasid *ioasids = c->ioasids;
	Ioasid__Registry__Vm vm, *vms = &vm;
	struct object *o;

	batch.memories = memory_pointers;
	batch.ioasids = ioasid_pointers;
	while (batch.n_memories < BATCH && batch.n_ioasids < BATCH &&
	       (o = lease_any_after(lease, c->object))) {
		struct ioasid *i = as_ioasid(o);
		struct vm *v = as_vm(o);

		c->object = o->id.value;
		if (v) {
			/* There are few: one a batch. */
			record_vm(&vm, v);
			batch.vms = &vms;
			batch.n_vms = 1;
			c->in_mappings = v->n_slots > 0;
			c->iova = 0;
			break;
		}
		if (i) {
			record_ioasid(&ioasids[batch.n_ioasids], i);
			ioasid_pointers[batch.n_ioasids] = &ioasids[batch.n_ioasids].ioasid;
			batch.n_ioasids++;
		} else {
			record_memory(&memories[batch.n_memories],
				      CONTAINER_OF(o, struct memory, object));
			memory_pointers[batch.n_memories] = &memories[batch.n_memories];
			batch.n_memories++;
		}
		if (i && i->n_mappings) {
			c->in_mappings = true;
			c->iova = 0;
			break;
		}
	}
	spend(c, batch.n_memories + batch.n_ioasids + batch.n_vms);
	if (batch.n_memories || batch.n_ioasids || batch.n_vms)
		append(broker, lease->serial, &batch);
	if (!c->in_mappings && !lease_any_after(lease, c->object))
		c->lease = TAILQ_NEXT(lease, all);
}

/* The mappings of the object that was written last. */
static void go_on_with_mappings(struct broker *broker, struct lease *lease)
{
	struct compact_cursor *c = broker->compaction;
	struct object *o = lease_any_after(lease, c->object - 1);

	/* It may have gone meanwhile. */
	if (!o || o->id.value != c->object)
		c->in_mappings = false;
	else if (as_vm(o))
		c->in_mappings = write_slots(broker, lease, as_vm(o));
	else
		c->in_mappings = write_mappings(broker, lease, as_ioasid(o));
}

static bool is_to_be_written(const struct lease *lease)
{
	return lease->state != LEASE_REAPING && lease->recorded;
}

static void go_on(struct broker *broker)
{
	struct compact_cursor *c = broker->compaction;
	struct lease *lease = c->lease;

	if (!is_to_be_written(lease)) {
		c->lease = TAILQ_NEXT(lease, all);
		c->in_lease = false;
		spend(c, 1);
		return;
	}
	if (!c->in_lease) {
		write_lease(broker, lease);
		write_devices(broker, lease);
		write_attachments(broker, lease);
		spend(c, 8 + lease->n_devices + lease->n_attachments);
		c->in_lease = true;
		c->object = 0;
		c->in_mappings = false;
	}
	if (c->in_mappings)
		go_on_with_mappings(broker, lease);
	else
		write_objects(broker, lease);
	if (c->lease != lease)
		c->in_lease = false;
}

static void start(struct broker *broker)
{
	struct compact_cursor *c = broker->compaction;

	c->running = true;
	c->result = 0;
	c->lease = TAILQ_FIRST(&broker->leases);
	c->in_lease = false;
	write_broker(broker);
	write_tenants(broker);
	write_held(broker);
	write_keys(broker, 0, broker->keys);
}

static int finish(struct broker *broker)
{
	struct compact_cursor *c = broker->compaction;
	int r = c->result;

	c->running = false;
	if (!r)
		r = registry_commit(broker->registry);
	if (r)
		registry_abandon(broker->registry);
	return r;
}

int compact_first(struct broker *broker, struct registry *registry,
		  const struct registry_boot_id *boot, const char *aside)
{
	struct compact_cursor *c = broker->compaction;
	struct lease *lease;
	int r;

	r = registry_begin(registry, boot, aside);
	if (r)
		return r;
	broker->registry = registry;
	TAILQ_FOREACH(lease, &broker->leases, all)
	{
		lease->recorded = true;
	}
	start(broker);
	while (c->lease && !c->result) {
		c->budget = SLICE;
		go_on(broker);
	}
	FAULT_POINT("restore", "compact");
	r = finish(broker);
	FAULT_POINT("restore", "commit");
	if (r)
		broker->registry = NULL;
	return r;
}

static void compact_slice(struct op *op)
{
	struct broker *broker = op->broker;
	struct compact_cursor *c = broker->compaction;
	int r;

	if (!c->running)
		return;
	c->budget = SLICE;
	while (c->lease && !c->result && c->budget)
		go_on(broker);
	FAULT_POINT("compact", "slice");
	if (c->lease && !c->result) {
		op_later(op, broker);
		return;
	}
	r = finish(broker);
	FAULT_POINT("compact", "commit");
	if (r)
		broker_log(broker, LOG_WARNING, "registry: the log could not be shortened: %s",
			   strerror(-r));
}

void compact_if_wanted(struct broker *broker)
{
	struct compact_cursor *c = broker->compaction;
	int r;

	if (c->running || broker->shutting_down || !registry_wants_compaction(broker->registry))
		return;
	/* After one that failed it is not tried again with every change. */
	if (c->again_us > broker_now(broker))
		return;
	c->again_us = broker_now(broker) + AGAIN_US;
	r = registry_begin(broker->registry, &broker->boot, NULL);
	if (r) {
		broker_log(broker, LOG_WARNING, "registry: no new log: %s", strerror(-r));
		return;
	}
	start(broker);
	FAULT_POINT("compact", "begin");
	c->op.complete = compact_slice;
	op_later(&c->op, broker);
}

void compact_skip(struct broker *broker, const struct lease *lease)
{
	struct compact_cursor *c = broker->compaction;

	if (!c->running || c->lease != lease)
		return;
	c->lease = TAILQ_NEXT(lease, all);
	c->in_lease = false;
}

void compact_stop(struct broker *broker)
{
	struct compact_cursor *c = broker->compaction;

	if (!c->running)
		return;
	c->running = false;
	registry_abandon(broker->registry);
}
