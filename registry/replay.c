/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From batches to tables.  A change costs one entry at the end of an array of its lease and kind
 * (struct change); at the end each array is sorted by key and age, and of each key the newest
 * counts.  That is less than a hash table of a million objects, takes its memory in order, and
 * a snapshot is in order already.
 *
 * What a drop takes with it:  of an IOASID, the mappings of it that are older; of a VM, its slots,
 * likewise; of a lease,
 * everything, and the lease is as if it had never been.  A drop of what is not there is nothing:
 * while a log was compacted, changes went in between the objects of the snapshot.
 *
 * Every pointer is into the arena of the image.  The hash table of leases is this file's own.
 */

#include "image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct change {
	uint64_t a; /* id, or the address of a string */
	uint64_t b;
	uint64_t age;	    /* increases */
	const void *record; /* NULL: dropped */
};

struct changes {
	struct change *items;
	size_t n, room;
};

struct replayed {
	uint64_t serial;
	uint64_t last_id; /* highest that was named */
	char damage[sizeof(((struct registry_lease *)0)->damage)];
	const Ioasid__Registry__Lease *lease;
	Ioasid__Registry__Intent *intent; /* the arena's; Progress becomes part of it */
	struct changes memories, ioasids, mappings, attachments, devices, keys, vms, slots;
	bool present; /* something was said of it since it was dropped */
};

struct replay {
	struct image *image;
	struct batch_records records;
	struct replayed **leases; /* hash table by serial, open; NULL: free */
	size_t n_leases, room;
	struct changes tenants, held, keys; /* of lease 0 */
	uint64_t age;
};

void damage_set(char *damage, size_t size, const char *format, ...)
{
	va_list ap;

	if (*damage)
		return;
	va_start(ap, format);
	vsnprintf(damage, size, format, ap);
	va_end(ap);
	for (; *damage; damage++)
		if (*damage < 0x20 || *damage > 0x7e)
			*damage = '?';
}

int replay_new(struct image *image, struct replay **ret_replay)
{
	struct replay *replay = calloc(1, sizeof(*replay));

	if (!replay)
		return -ENOMEM;
	replay->image = image;
	*ret_replay = replay;
	return 0;
}

void replay_free(struct replay *replay)
{
	if (!replay)
		return;
	batch_records_deinit(&replay->records);
	free(replay->leases);
	free(replay);
}

/* ---- leases ---- */

static size_t slot_of(struct replayed *const *leases, size_t room, uint64_t serial)
{
	/* Serials are given in order; the multiplication keeps forged ones from one place. */
	size_t i = (size_t)(serial * 0x9e3779b97f4a7c15ull >> 20) & (room - 1);

	while (leases[i] && leases[i]->serial != serial)
		i = (i + 1) & (room - 1);
	return i;
}

static int leases_grow(struct replay *replay)
{
	size_t room = replay->room ? replay->room * 2 : 256;
	struct replayed **leases = calloc(room, sizeof(*leases));

	if (!leases)
		return -ENOMEM;
	for (size_t i = 0; i < replay->room; i++)
		if (replay->leases[i])
			leases[slot_of(leases, room, replay->leases[i]->serial)] =
				replay->leases[i];
	free(replay->leases);
	replay->leases = leases;
	replay->room = room;
	return 0;
}

static int lease_get(struct replay *replay, uint64_t serial, struct replayed **ret)
{
	struct replayed *lease;
	size_t i;
	int r;

	if (replay->n_leases * 2 >= replay->room) {
		r = leases_grow(replay);
		if (r)
			return r;
	}
	i = slot_of(replay->leases, replay->room, serial);
	if (!replay->leases[i]) {
		lease = record_arena_alloc(&replay->image->arena, sizeof(*lease));
		if (!lease)
			return -ENOMEM;
		*lease = (struct replayed){.serial = serial};
		replay->leases[i] = lease;
		replay->n_leases++;
		if (serial > replay->image->image.last_serial)
			replay->image->image.last_serial = serial;
	}
	*ret = replay->leases[i];
	return 0;
}

int replay_damage(struct replay *replay, uint64_t serial, const char *why)
{
	struct registry_image *image = &replay->image->image;
	struct replayed *lease;
	int r;

	if (!serial) {
		damage_set(image->damage, sizeof(image->damage), "%s", why);
		return 0;
	}
	r = lease_get(replay, serial, &lease);
	if (r)
		return r;
	damage_set(lease->damage, sizeof(lease->damage), "%s", why);
	lease->present = true;
	return 0;
}

/* ---- changes ---- */

static uint64_t text_key(const char *text)
{
	return (uint64_t)(uintptr_t)text;
}

static int change(struct replay *replay, struct changes *changes, uint64_t a, uint64_t b,
		  const void *record)
{
	int r = record_arena_grow(&replay->image->arena, (void **)&changes->items, changes->n,
				  &changes->room, sizeof(struct change));

	if (!r)
		changes->items[changes->n++] = (struct change){a, b, ++replay->age, record};
	return r;
}

static void name_id(struct replayed *lease, uint64_t id)
{
	if (id > lease->last_id)
		lease->last_id = id;
}

static int drop_in_lease(struct replay *replay, struct replayed *lease,
			 const Ioasid__Registry__Drop *drop)
{
	if (drop->lease) {
		/* The arrays are used again for nothing: a serial is never used again. */
		*lease = (struct replayed){.serial = lease->serial};
		return 0;
	}
	name_id(lease, drop->memory);
	name_id(lease, drop->ioasid);
	if (drop->memory)
		return change(replay, &lease->memories, drop->memory, 0, NULL);
	if (drop->ioasid)
		return change(replay, &lease->ioasids, drop->ioasid, 0, NULL);
	name_id(lease, drop->vm);
	if (drop->vm)
		return change(replay, &lease->vms, drop->vm, 0, NULL);
	if (drop->slot)
		return change(replay, &lease->slots, drop->slot->vm, drop->slot->slot, NULL);
	if (drop->mapping)
		return change(replay, &lease->mappings, drop->mapping->ioasid, drop->mapping->iova,
			      NULL);
	if (drop->attachment)
		return change(replay, &lease->attachments, text_key(drop->attachment->device),
			      drop->attachment->pasid, NULL);
	if (*drop->device)
		return change(replay, &lease->devices, text_key(drop->device), 0, NULL);
	if (*drop->key)
		return change(replay, &lease->keys, text_key(drop->key), 0, NULL);
	lease->intent = NULL;
	return 0;
}

static int drop_in_zero(struct replay *replay, const Ioasid__Registry__Drop *drop)
{
	if (*drop->tenant)
		return change(replay, &replay->tenants, text_key(drop->tenant), 0, NULL);
	if (*drop->held)
		return change(replay, &replay->held, text_key(drop->held), 0, NULL);
	return change(replay, &replay->keys, text_key(drop->key), 0, NULL);
}

static int put_in_zero(struct replay *replay, const struct batch_record *record)
{
	struct registry_image *image = &replay->image->image;
	const Ioasid__Registry__Tenant *tenant = record->message;
	const Ioasid__Registry__Held *held = record->message;
	const Ioasid__Registry__Key *key = record->message;
	const Ioasid__Registry__Broker *broker = record->message;

	switch (record->field) {
	case BATCH_TENANT:
		return change(replay, &replay->tenants, text_key(tenant->path), 0, tenant);
	case BATCH_HELD:
		return change(replay, &replay->held, text_key(held->address), 0, held);
	case BATCH_KEY:
		return change(replay, &replay->keys, text_key(key->key), 0, key);
	default:
		if (broker->last_serial > image->last_serial)
			image->last_serial = broker->last_serial;
		image->event_sequence = broker->event_sequence;
		return 0;
	}
}

static int put_in_lease(struct replay *replay, struct replayed *lease,
			const struct batch_record *record)
{
	const Ioasid__Registry__Memory *memory = record->message;
	const Ioasid__Registry__Ioasid *ioasid = record->message;
	const Ioasid__Registry__Mapping *mapping = record->message;
	const Ioasid__Registry__Attachment *attachment = record->message;
	const Ioasid__Registry__Device *device = record->message;
	const Ioasid__Registry__Key *key = record->message;
	const Ioasid__Registry__Progress *progress = record->message;
	const Ioasid__Registry__Vm *vm = record->message;
	const Ioasid__Registry__Slot *slot = record->message;

	lease->present = true;
	switch (record->field) {
	case BATCH_LEASE:
		lease->lease = record->message;
		return 0;
	case BATCH_MEMORY:
		name_id(lease, memory->id);
		return change(replay, &lease->memories, memory->id, 0, memory);
	case BATCH_IOASID:
		name_id(lease, ioasid->id);
		name_id(lease, ioasid->parent);
		name_id(lease, ioasid->vm);
		return change(replay, &lease->ioasids, ioasid->id, 0, ioasid);
	case BATCH_MAPPING:
		name_id(lease, mapping->ioasid);
		name_id(lease, mapping->memory);
		return change(replay, &lease->mappings, mapping->ioasid, mapping->iova, mapping);
	case BATCH_ATTACHMENT:
		name_id(lease, attachment->ioasid);
		return change(replay, &lease->attachments, text_key(attachment->device),
			      attachment->pasid, attachment);
	case BATCH_DEVICE:
		return change(replay, &lease->devices, text_key(device->address), 0, device);
	case BATCH_KEY:
		return change(replay, &lease->keys, text_key(key->key), 0, key);
	case BATCH_VM:
		name_id(lease, vm->id);
		return change(replay, &lease->vms, vm->id, 0, vm);
	case BATCH_SLOT:
		name_id(lease, slot->vm);
		name_id(lease, slot->memory);
		return change(replay, &lease->slots, slot->vm, slot->slot, slot);
	case BATCH_PROGRESS:
		if (lease->intent) {
			lease->intent->done_mappings = progress->mappings;
			lease->intent->done_bytes = progress->bytes;
		}
		return 0;
	default:
		lease->intent = (Ioasid__Registry__Intent *)record->message;
		name_id(lease, lease->intent->ioasid);
		name_id(lease, lease->intent->memory);
		name_id(lease, lease->intent->vm);
		return 0;
	}
}

int replay_batch(struct replay *replay, uint64_t serial, const uint8_t *body, size_t size)
{
	struct replayed *lease = NULL;
	int r;

	r = batch_unpack(&replay->image->arena, serial, body, size, &replay->records);
	if (!r && serial)
		r = lease_get(replay, serial, &lease);
	if (r)
		return r;
	for (int drops = 1; drops >= 0; drops--) {
		for (size_t i = 0; i < replay->records.n; i++) {
			const struct batch_record *record = &replay->records.items[i];

			if ((record->field == BATCH_DROP) != drops)
				continue;
			if (lease)
				r = drops ? drop_in_lease(replay, lease, record->message)
					  : put_in_lease(replay, lease, record);
			else
				r = drops ? drop_in_zero(replay, record->message)
					  : put_in_zero(replay, record);
			if (r)
				return r;
		}
	}
	return 0;
}

/* ---- the end ---- */

static int compare_ids(const void *x, const void *y)
{
	const struct change *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	if (a->b != b->b)
		return a->b < b->b ? -1 : 1;
	return a->age < b->age ? -1 : a->age > b->age;
}

static int compare_texts(const void *x, const void *y)
{
	const struct change *a = x, *b = y;
	int r = strcmp((const char *)(uintptr_t)a->a, (const char *)(uintptr_t)b->a);

	if (r)
		return r;
	if (a->b != b->b)
		return a->b < b->b ? -1 : 1;
	return a->age < b->age ? -1 : a->age > b->age;
}

static bool same_key(const struct change *a, const struct change *b, bool texts)
{
	return a->b == b->b &&
	       (texts ? !strcmp((const char *)(uintptr_t)a->a, (const char *)(uintptr_t)b->a)
		      : a->a == b->a);
}

/* Sorts, and leaves the newest change of each key. */
static void settle(struct changes *changes, bool texts)
{
	int (*compare)(const void *, const void *) = texts ? compare_texts : compare_ids;
	size_t n = 0, i = 1;

	while (i < changes->n && compare(&changes->items[i - 1], &changes->items[i]) < 0)
		i++;
	if (i < changes->n)
		qsort(changes->items, changes->n, sizeof(*changes->items), compare);
	for (i = 0; i < changes->n; i++) {
		if (n && same_key(&changes->items[n - 1], &changes->items[i], texts))
			n--;
		changes->items[n++] = changes->items[i];
	}
	changes->n = n;
}

/* Mappings that are older than the last drop of their IOASID go, and slots likewise.  Both are in
 * order; ioasids still has every change. */
static void drop_mappings(struct changes *mappings, const struct changes *ioasids)
{
	size_t n = 0, k = 0;
	uint64_t dropped = 0, of = 0;

	for (size_t i = 0; i < mappings->n; i++) {
		const struct change *m = &mappings->items[i];

		if (m->a != of)
			dropped = 0;
		of = m->a;
		while (k < ioasids->n && ioasids->items[k].a <= of) {
			const struct change *ioasid = &ioasids->items[k++];

			if (ioasid->a == of && !ioasid->record && ioasid->age > dropped)
				dropped = ioasid->age;
		}
		if (m->age > dropped)
			mappings->items[n++] = *m;
	}
	mappings->n = n;
}

/* The records that live. */
static int collect(struct replay *replay, const struct changes *changes, const void *ret_array,
		   size_t *ret_n)
{
	const void **array;
	size_t n = 0;

	for (size_t i = 0; i < changes->n; i++)
		n += !!changes->items[i].record;
	array = record_arena_alloc_array(&replay->image->arena, n, sizeof(*array));
	if (!array)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < changes->n; i++)
		if (changes->items[i].record)
			array[n++] = changes->items[i].record;
	*(const void ***)(uintptr_t)ret_array = array;
	*ret_n = n;
	return 0;
}

static int compare_keys(const void *x, const void *y)
{
	const Ioasid__Registry__Key *a = *(const Ioasid__Registry__Key *const *)x;
	const Ioasid__Registry__Key *b = *(const Ioasid__Registry__Key *const *)y;

	if (a->order != b->order)
		return a->order < b->order ? -1 : 1;
	return strcmp(a->key, b->key);
}

static int collect_keys(struct replay *replay, struct changes *changes,
			const Ioasid__Registry__Key ***ret_keys, size_t *ret_n)
{
	int r;

	settle(changes, true);
	r = collect(replay, changes, ret_keys, ret_n);
	if (!r && *ret_n)
		qsort(*ret_keys, *ret_n, sizeof(**ret_keys), compare_keys);
	return r;
}

static int finish_lease(struct replay *replay, struct replayed *from, struct registry_lease *to)
{
	int r;

	*to = (struct registry_lease){
		.serial = from->serial, .lease = from->lease, .intent = from->intent};
	memcpy(to->damage, from->damage, sizeof(to->damage));
	to->next_id = from->last_id == UINT64_MAX ? UINT64_MAX : from->last_id + 1;
	if (from->lease && from->lease->next_id > to->next_id)
		to->next_id = from->lease->next_id;
	settle(&from->memories, false);
	settle(&from->mappings, false);
	if (from->ioasids.n)
		qsort(from->ioasids.items, from->ioasids.n, sizeof(*from->ioasids.items),
		      compare_ids);
	drop_mappings(&from->mappings, &from->ioasids);
	settle(&from->ioasids, false);
	settle(&from->slots, false);
	if (from->vms.n)
		qsort(from->vms.items, from->vms.n, sizeof(*from->vms.items), compare_ids);
	drop_mappings(&from->slots, &from->vms);
	settle(&from->vms, false);
	settle(&from->attachments, true);
	settle(&from->devices, true);
	r = collect(replay, &from->memories, &to->memories, &to->n_memories);
	if (!r)
		r = collect(replay, &from->ioasids, &to->ioasids, &to->n_ioasids);
	if (!r)
		r = collect(replay, &from->vms, &to->vms, &to->n_vms);
	if (!r)
		r = collect(replay, &from->slots, &to->slots, &to->n_slots);
	if (!r)
		r = collect(replay, &from->mappings, &to->mappings, &to->n_mappings);
	if (!r)
		r = collect(replay, &from->attachments, &to->attachments, &to->n_attachments);
	if (!r)
		r = collect(replay, &from->devices, &to->devices, &to->n_devices);
	if (!r)
		r = collect_keys(replay, &from->keys, &to->keys, &to->n_keys);
	return r;
}

static int compare_serials(const void *x, const void *y)
{
	const struct replayed *a = *(const struct replayed *const *)x;
	const struct replayed *b = *(const struct replayed *const *)y;

	return a->serial < b->serial ? -1 : a->serial > b->serial;
}

int replay_finish(struct replay *replay)
{
	struct registry_image *image = &replay->image->image;
	size_t n = 0;
	int r;

	settle(&replay->tenants, true);
	settle(&replay->held, true);
	r = collect(replay, &replay->tenants, &image->tenants, &image->n_tenants);
	if (!r)
		r = collect(replay, &replay->held, &image->held, &image->n_held);
	if (!r)
		r = collect_keys(replay, &replay->keys, &image->keys, &image->n_keys);
	if (r)
		return r;
	/* The table is not needed as one any more. */
	for (size_t i = 0; i < replay->room; i++)
		if (replay->leases[i] && replay->leases[i]->present)
			replay->leases[n++] = replay->leases[i];
	replay->room = 0;
	if (n)
		qsort(replay->leases, n, sizeof(*replay->leases), compare_serials);
	image->leases = record_arena_alloc_array(&replay->image->arena, n, sizeof(*image->leases));
	if (!image->leases)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		r = finish_lease(replay, replay->leases[i], &image->leases[i]);
		if (r)
			return r;
	}
	image->n_leases = n;
	return 0;
}
