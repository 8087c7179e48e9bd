/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry's side of requests and objects.
 *
 * Owns the open intents (call->intent, intent_open) and their room (call->room).  Never does:
 * decide what becomes of an intent after a crash (restore.c); iterate over objects (compact.c).
 *
 * Invariants: nothing is published before it is written; what is written of a lease is
 * consistent after every batch; nothing is written of a lease whose end is written or that is
 * left to the next broker.  State thread.
 */
#include "server/broker/journal.h"

#include "server/broker/compact.h"
#include "server/broker/event.h"
#include "server/broker/fault_point.h"
#include "server/broker/key_table.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Of a key's record without its answer: key, method, numbers, framing. */
#define KEY_BOUND (KEY_MAX + 128)
/* Drop of the intent and framing. */
#define FRAME_BOUND 96
/* Records on the stack. */
#define DROPS 64
/* Events are numbered in blocks, so that not each of them is written. */
#define EVENT_BLOCK 1024

static bool is_written(const struct lease *lease)
{
	return lease->broker->registry && lease->recorded && lease->state != LEASE_REAPING;
}

void journal_append(struct broker *broker, uint64_t lease, Ioasid__Registry__Batch *batch)
{
	struct registry_room room = {0};

	if (!broker->registry)
		return;
	registry_room_take(broker->registry, REGISTRY_RELEASES, registry_batch_size(batch), &room);
	registry_append(broker->registry, &room, lease, batch);
	registry_room_release(broker->registry, &room);
	compact_if_wanted(broker);
}

static void append_drop(struct broker *broker, uint64_t lease, Ioasid__Registry__Drop *drop)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;

	batch.drops = &drop;
	batch.n_drops = 1;
	journal_append(broker, lease, &batch);
}

/* An op that made the lease's context has ended. */
static bool context_is_new(struct lease *lease)
{
	if (!lease->ctx || lease->ctx_saved)
		return false;
	shim_ctx_save(lease->ctx, &lease->saved);
	lease->ctx_saved = true;
	return lease->saved.n > 0;
}

/* ---- requests ---- */

static uint64_t serial_of(const struct broker_call *call)
{
	return call->lease ? call->lease->serial : 0;
}

static int take_room(struct broker_call *call, size_t bytes)
{
	enum registry_class class = call->gives_back || call->method->flags & METHOD_RELEASES
					    ? REGISTRY_RELEASES
					    : REGISTRY_GROWS;

	if (registry_room_take(call->broker->registry, class, bytes, &call->room))
		return refuse_registry_full(call);
	return OUTCOME_OK;
}

/* What was reserved suffices, but for answers that nobody reserved anything for. */
static void append_in_room(struct broker_call *call, Ioasid__Registry__Batch *batch)
{
	struct registry *registry = call->broker->registry;
	size_t size = registry_batch_size(batch);

	if (call->room.bytes < size)
		registry_room_take(registry, REGISTRY_RELEASES, size - call->room.bytes,
				   &call->room);
	registry_append(registry, &call->room, serial_of(call), batch);
}

int journal_reserve(struct broker_call *call, size_t result_bytes)
{
	size_t answer = call->key_entry && call->response
				? protobuf_c_message_get_packed_size(call->response)
				: 0;

	if (!call->broker->registry)
		return OUTCOME_OK;
	return take_room(call,
			 result_bytes + KEY_BOUND + answer + RECORD_LEASE_BOUND + FRAME_BOUND);
}

Ioasid__Registry__Intent *journal_intent(struct broker_call *call)
{
	ioasid__registry__intent__init(&call->intent);
	return &call->intent;
}

int journal_intent_devices(struct broker_call *call, struct device *const *devices, size_t n)
{
	Ioasid__Registry__Intent *intent = &call->intent;

	if (!call->broker->registry)
		return OUTCOME_OK;
	intent->devices = scratch_calloc(&call->scratch, n, sizeof(*intent->devices));
	if (!intent->devices)
		return refuse_no_memory(call);
	for (size_t i = 0; i < n; i++)
		intent->devices[intent->n_devices++] = (char *)devices[i]->info->address;
	return OUTCOME_OK;
}

int journal_promise(struct broker_call *call)
{
	Ioasid__Registry__Intent *intent = &call->intent;
	size_t n;

	if (!call->broker->registry || !call->key_entry)
		return OUTCOME_OK;
	n = protobuf_c_message_get_packed_size(call->response);
	intent->answer.data = scratch_alloc(&call->scratch, n);
	if (!intent->answer.data)
		return refuse_no_memory(call);
	intent->answer.len = protobuf_c_message_pack(call->response, intent->answer.data);
	return OUTCOME_OK;
}

int journal_begin(struct broker_call *call, size_t result_bytes, size_t answer_growth)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Intent *intent = &call->intent;
	int r;

	if (!call->broker->registry)
		return OUTCOME_OK;
	intent->method = (char *)call->method->path;
	if (call->key_entry) {
		intent->key = (char *)call->key;
		intent->hash = call->hash;
		intent->admin_key = call->method->flags & METHOD_BROKER_KEY;
	}
	batch.intent = intent;
	FAULT_POINT(call->method->path, "reserve");
	r = journal_reserve(call, registry_batch_size(&batch) + result_bytes + answer_growth);
	if (r)
		return r;
	assert(call->lease && call->lease->recorded);
	append_in_room(call, &batch);
	call->intent_open = true;
	FAULT_POINT(call->method->path, "intent");
	compact_if_wanted(call->broker);
	return OUTCOME_OK;
}

/* At most DROPS in one batch: they are on the stack. */
static void append_unmapped(struct broker_call *call, const struct ioasid *ioasid,
			    struct mapping *const *mappings, size_t n,
			    Ioasid__Registry__Progress *progress)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drops[DROPS], *pointers[DROPS];
	Ioasid__Registry__Mapping records[DROPS];

	for (size_t i = 0; i < n; i++) {
		ioasid__registry__mapping__init(&records[i]);
		records[i].ioasid = ioasid->object.id.value;
		records[i].iova = mappings[i]->iova;
		ioasid__registry__drop__init(&drops[i]);
		drops[i].mapping = &records[i];
		pointers[i] = &drops[i];
	}
	batch.drops = pointers;
	batch.n_drops = n;
	batch.progress = progress;
	journal_append(call->broker, call->lease->serial, &batch);
}

void journal_unmapped(struct broker_call *call, const struct ioasid *ioasid,
		      struct mapping *const *mappings, size_t n, uint64_t done_mappings,
		      uint64_t done_bytes)
{
	Ioasid__Registry__Progress progress = IOASID__REGISTRY__PROGRESS__INIT;
	uint64_t bytes = 0;

	if (!call->broker->registry)
		return;
	for (size_t i = 0; i < n; i++)
		bytes += mappings[i]->length;
	/* A crash between two batches must find what the first of them says to be true. */
	progress.mappings = done_mappings - n;
	progress.bytes = done_bytes - bytes;
	for (size_t i = 0; i < n; i += DROPS) {
		size_t some = n - i < DROPS ? n - i : DROPS;

		for (size_t k = i; k < i + some; k++)
			progress.bytes += mappings[k]->length;
		progress.mappings += some;
		append_unmapped(call, ioasid, mappings + i, some, &progress);
	}
	/* For a log that is begun now. */
	call->intent.done_mappings = done_mappings;
	call->intent.done_bytes = done_bytes;
}

/* A key that is remembered, and whose answer means something to the next broker. */
static bool has_key(const struct broker_call *call)
{
	return call->key_entry && !(call->method->flags & METHOD_TRANSIENT);
}

/* Of the Admin service: before what the lease gets, so that an open intent stands behind it. */
static void append_admin_key(struct broker_call *call, Ioasid__Registry__Key *key)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;

	batch.keys = &key;
	batch.n_keys = 1;
	journal_append(call->broker, 0, &batch);
}

void journal_result(struct broker_call *call, Ioasid__Registry__Batch *result)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT, *drops[2];
	struct broker *broker = call->broker;
	struct lease *lease = call->lease;
	struct record_lease record;
	Ioasid__Registry__Key key, *keys = &key;

	FAULT_POINT(call->method->path, "before_result");
	call->written = true;
	call_settle_key(call);
	if (!broker->registry)
		return;
	if (result)
		batch = *result;
	if (has_key(call)) {
		record_key(&key, call->key_entry);
		if (call->method->flags & METHOD_BROKER_KEY && lease) {
			append_admin_key(call, &key);
		} else {
			batch.keys = &keys;
			batch.n_keys = 1;
		}
	}
	drop.intent = true;
	if (call->intent_open) {
		/* Unmap writes its drops itself; a slot's is one. */
		assert(batch.n_drops < 2);
		if (batch.n_drops)
			drops[0] = batch.drops[0];
		drops[batch.n_drops++] = &drop;
		batch.drops = drops;
		call->intent_open = false;
	}
	if (lease && lease->recorded && context_is_new(lease)) {
		record_lease(&record, lease);
		batch.lease = &record.lease;
	}
	if (!batch.n_drops && !batch.n_keys && !result && !batch.lease)
		return;
	append_in_room(call, &batch);
	FAULT_POINT(call->method->path, "result");
	compact_if_wanted(broker);
}

void journal_end(struct broker_call *call)
{
	if (!call->broker->registry)
		return;
	/* Refused by the shim: nothing has changed but that the lease may have a context now. */
	if (call->intent_open) {
		Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

		drop.intent = true;
		call->intent_open = false;
		append_drop(call->broker, call->lease->serial, &drop);
		if (context_is_new(call->lease))
			journal_lease(call->lease);
	}
	registry_room_release(call->broker->registry, &call->room);
}

/* ---- objects ---- */

int journal_lease_room(struct lease *lease)
{
	struct broker *broker = lease->broker;

	if (!broker->registry)
		return 0;
	return registry_room_take(broker->registry, REGISTRY_GROWS,
				  RECORD_LEASE_BOUND + FRAME_BOUND, &lease->room);
}

void journal_lease(struct lease *lease)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	struct broker *broker = lease->broker;
	struct record_lease record;

	if (!broker->registry || lease->state == LEASE_REAPING)
		return;
	record_lease(&record, lease);
	batch.lease = &record.lease;
	if (lease->recorded) {
		journal_append(broker, lease->serial, &batch);
	} else {
		registry_append(broker->registry, &lease->room, lease->serial, &batch);
		registry_room_release(broker->registry, &lease->room);
		lease->recorded = true;
	}
}

void journal_drop_lease(struct lease *lease)
{
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	if (!lease->broker->registry)
		return;
	registry_room_release(lease->broker->registry, &lease->room);
	if (!lease->recorded || lease->leaving)
		return;
	lease->recorded = false;
	drop.lease = true;
	append_drop(lease->broker, lease->serial, &drop);
}

void journal_memory(struct lease *lease, const struct memory *memory)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Memory record, *records = &record;

	if (!is_written(lease))
		return;
	record_memory(&record, memory);
	batch.memories = &records;
	batch.n_memories = 1;
	journal_append(lease->broker, lease->serial, &batch);
}

void journal_drop_memory(struct lease *lease, const struct memory *memory)
{
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	if (!is_written(lease))
		return;
	drop.memory = memory->object.id.value;
	append_drop(lease->broker, lease->serial, &drop);
}

void journal_ioasid(struct lease *lease, const struct ioasid *ioasid)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Ioasid *records;
	struct record_ioasid record;

	if (!is_written(lease))
		return;
	record_ioasid(&record, ioasid);
	records = &record.ioasid;
	batch.ioasids = &records;
	batch.n_ioasids = 1;
	journal_append(lease->broker, lease->serial, &batch);
}

void journal_drop_ioasid(struct lease *lease, const struct ioasid *ioasid)
{
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	if (!is_written(lease))
		return;
	drop.ioasid = ioasid->object.id.value;
	append_drop(lease->broker, lease->serial, &drop);
}

void journal_vm(struct lease *lease, const struct vm *vm)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Vm record, *records = &record;

	if (!is_written(lease))
		return;
	record_vm(&record, vm);
	batch.vms = &records;
	batch.n_vms = 1;
	journal_append(lease->broker, lease->serial, &batch);
}

void journal_drop_vm(struct lease *lease, const struct vm *vm)
{
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	if (!is_written(lease))
		return;
	drop.vm = vm->object.id.value;
	append_drop(lease->broker, lease->serial, &drop);
}

void journal_drop_attachment(struct lease *lease, const struct attachment *a)
{
	Ioasid__Registry__Attachment record = IOASID__REGISTRY__ATTACHMENT__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	if (!is_written(lease))
		return;
	record.device = (char *)a->device->info->address;
	record.pasid = a->pasid + 1;
	drop.attachment = &record;
	append_drop(lease->broker, lease->serial, &drop);
}

void journal_device(struct lease *lease, const struct device *device)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Device record, *records = &record;

	if (!is_written(lease))
		return;
	record_device(&record, device);
	batch.devices = &records;
	batch.n_devices = 1;
	journal_append(lease->broker, lease->serial, &batch);
}

void journal_drop_device(struct lease *lease, const struct device *device)
{
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	if (!is_written(lease))
		return;
	drop.device = (char *)device->info->address;
	append_drop(lease->broker, lease->serial, &drop);
}

void journal_held(struct broker *broker, const struct device *device)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Held *records;
	struct record_held record;

	record_held(&record, device);
	records = &record.held;
	batch.held = &records;
	batch.n_held = 1;
	journal_append(broker, 0, &batch);
}

void journal_drop_held(struct broker *broker, const struct device *device)
{
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;

	drop.held = (char *)device->info->address;
	append_drop(broker, 0, &drop);
}

void journal_tenant(struct broker *broker, const struct tenant *tenant)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT;
	Ioasid__Registry__Tenant *records;
	struct record_tenant record;

	if (!broker->registry)
		return;
	if (!record_tenant(&record, tenant)) {
		drop.tenant = record_tenant_path(tenant);
		append_drop(broker, 0, &drop);
		return;
	}
	records = &record.tenant;
	batch.tenants = &records;
	batch.n_tenants = 1;
	journal_append(broker, 0, &batch);
}

void journal_broker(struct broker *broker)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Broker record = IOASID__REGISTRY__BROKER__INIT;

	if (!broker->registry)
		return;
	broker->events_written = event_log_last(broker->events) + EVENT_BLOCK;
	record.last_serial = broker->last_serial;
	record.event_sequence = broker->events_written;
	batch.broker = &record;
	journal_append(broker, 0, &batch);
}
