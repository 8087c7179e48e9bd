/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The invariants of what a registry holds.  The first violation that is found of a lease is its
 * damage; where two leases contradict each other (a device, a name), each gets it, for it cannot
 * be told which is right.  A lease that lacks changes contradicts nobody: what it seems to have may
 * long have gone to the other, whose records are whole.  Nothing else is changed here, nor decided
 * what to do.
 *
 * Every table is sorted (replay.c), and unique by its key by construction: of a key the newest
 * record counts.
 */

#include "image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No text in a broker is longer; what is, was not written by one. */
#define TEXT_MAX  4096
#define BYTES_MAX ((size_t)16 << 20)
#define KIND_MAX  4
#define PROT_ALL  3u

#define violation(lease, ...) damage_set((lease)->damage, sizeof((lease)->damage), __VA_ARGS__)

static bool text_ok(const char *text, bool required)
{
	const size_t n = strnlen(text, TEXT_MAX + 1);

	return n <= TEXT_MAX && (n || !required);
}

static bool bytes_ok(const ProtobufCBinaryData *bytes)
{
	return bytes->len <= BYTES_MAX;
}

/* ---- one lease ---- */

static const Ioasid__Registry__Memory *memory_find(const struct registry_lease *lease, uint64_t id)
{
	size_t low = 0, high = lease->n_memories;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (lease->memories[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < lease->n_memories && lease->memories[low]->id == id ? lease->memories[low]
									 : NULL;
}

static const Ioasid__Registry__Ioasid *ioasid_find(const struct registry_lease *lease, uint64_t id)
{
	size_t low = 0, high = lease->n_ioasids;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (lease->ioasids[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < lease->n_ioasids && lease->ioasids[low]->id == id ? lease->ioasids[low] : NULL;
}

static const Ioasid__Registry__Vm *vm_find(const struct registry_lease *lease, uint64_t id)
{
	size_t low = 0, high = lease->n_vms;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (lease->vms[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < lease->n_vms && lease->vms[low]->id == id ? lease->vms[low] : NULL;
}

static bool device_is_claimed(const struct registry_lease *lease, const char *address)
{
	size_t low = 0, high = lease->n_devices;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (strcmp(lease->devices[middle]->address, address) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < lease->n_devices && !strcmp(lease->devices[low]->address, address);
}

static bool key_ok(const Ioasid__Registry__Key *key)
{
	return text_ok(key->key, true) && text_ok(key->method, true) && bytes_ok(&key->answer);
}

static void check_record(struct registry_lease *lease)
{
	const Ioasid__Registry__Lease *record = lease->lease;

	if (!record) {
		violation(lease, "there is no record of the lease itself");
		return;
	}
	if (!text_ok(record->tenant, true))
		violation(lease, "the lease has no tenant, or one whose name is too long");
	if (!text_ok(record->name, false) || !text_ok(record->opener_socket, false) ||
	    !text_ok(record->open_key, false) || (record->closer && !key_ok(record->closer)) ||
	    !bytes_ok(&record->secret) || !bytes_ok(&record->context) ||
	    (record->holder &&
	     (!text_ok(record->holder->socket, false) || !bytes_ok(&record->holder->token))))
		violation(lease, "a text of the lease is too long");
}

static void check_memories(struct registry_lease *lease)
{
	for (size_t i = 0; i < lease->n_memories; i++) {
		const Ioasid__Registry__Memory *m = lease->memories[i];
		uint64_t end;

		if (!m->id || m->id >= lease->next_id)
			violation(lease, "memory %llu: no id can be that",
				  (unsigned long long)m->id);
		else if (!m->length || __builtin_add_overflow(m->offset, m->length, &end))
			violation(lease, "memory %llu: it is empty or wraps",
				  (unsigned long long)m->id);
		else if (!text_ok(m->label, false))
			violation(lease, "memory %llu: its label is too long",
				  (unsigned long long)m->id);
		else if (ioasid_find(lease, m->id))
			violation(lease, "id %llu is a memory and an IOASID",
				  (unsigned long long)m->id);
	}
}

static bool ioasid_texts_ok(const Ioasid__Registry__Ioasid *ioasid)
{
	for (size_t i = 0; i < ioasid->n_devices; i++)
		if (!text_ok(ioasid->devices[i], true))
			return false;
	return text_ok(ioasid->label, false) && bytes_ok(&ioasid->table);
}

static bool ranges_ok(const uint64_t *words, size_t n)
{
	if (n % 2)
		return false;
	for (size_t i = 0; i < n; i += 2)
		if (words[i] > words[i + 1])
			return false;
	return true;
}

static void check_ioasids(struct registry_lease *lease)
{
	for (size_t i = 0; i < lease->n_ioasids; i++) {
		const Ioasid__Registry__Ioasid *a = lease->ioasids[i];
		const unsigned long long id = a->id;

		if (!id || id >= lease->next_id)
			violation(lease, "ioasid %llu: no id can be that", id);
		else if (!a->kind || a->kind > KIND_MAX)
			violation(lease, "ioasid %llu: there is no kind %u", id, a->kind);
		else if (a->parent >= id)
			violation(lease, "ioasid %llu: its parent %llu would be younger", id,
				  (unsigned long long)a->parent);
		else if (a->parent && !ioasid_find(lease, a->parent))
			violation(lease, "ioasid %llu: its parent %llu is not there", id,
				  (unsigned long long)a->parent);
		else if (a->vm && !vm_find(lease, a->vm))
			violation(lease, "ioasid %llu: its VM %llu is not there", id,
				  (unsigned long long)a->vm);
		else if (!ranges_ok(a->valid, a->n_valid))
			violation(lease, "ioasid %llu: its valid ranges are none", id);
		else if (!ioasid_texts_ok(a))
			violation(lease, "ioasid %llu: a text of it is too long or empty", id);
	}
}

/* NULL: it is sound by itself. */
static const char *mapping_fault(const struct registry_lease *lease,
				 const Ioasid__Registry__Mapping *m,
				 const Ioasid__Registry__Ioasid *ioasid,
				 const Ioasid__Registry__Memory *memory)
{
	uint64_t end;

	if (!m->length || m->iova + (m->length - 1) < m->iova)
		return "it is empty or wraps";
	if (!m->prot || m->prot & ~PROT_ALL)
		return "its access is none";
	if (!ioasid)
		return "its IOASID is not there";
	if (!m->memory)
		return !ioasid->parent ? "its source is a parent, and there is none"
		       : m->offset + (m->length - 1) < m->offset ? "its source wraps"
								 : NULL;
	if (!memory)
		return "its memory is not there";
	if (__builtin_add_overflow(m->offset, m->length, &end) || end > memory->length)
		return "it is not inside its memory";
	return NULL;
}

static void check_mappings(struct registry_lease *lease)
{
	const Ioasid__Registry__Mapping *before = NULL;
	const Ioasid__Registry__Ioasid *ioasid = NULL;
	const Ioasid__Registry__Memory *memory = NULL;

	for (size_t i = 0; i < lease->n_mappings; i++) {
		const Ioasid__Registry__Mapping *m = lease->mappings[i];
		const char *fault;

		/* Neighbours mostly share both. */
		if (!ioasid || ioasid->id != m->ioasid)
			ioasid = ioasid_find(lease, m->ioasid);
		if (m->memory && (!memory || memory->id != m->memory))
			memory = memory_find(lease, m->memory);
		fault = mapping_fault(lease, m, ioasid, memory);
		if (!fault && before && before->ioasid == m->ioasid &&
		    before->iova + (before->length - 1) >= m->iova)
			fault = "it overlaps the one before";
		if (fault) {
			violation(lease, "mapping of ioasid %llu at 0x%llx: %s",
				  (unsigned long long)m->ioasid, (unsigned long long)m->iova,
				  fault);
			return;
		}
		before = m;
	}
}

static void check_vms(struct registry_lease *lease)
{
	for (size_t i = 0; i < lease->n_vms; i++) {
		const Ioasid__Registry__Vm *vm = lease->vms[i];
		const unsigned long long id = vm->id;

		if (!id || id >= lease->next_id)
			violation(lease, "vm %llu: no id can be that", id);
		else if (!text_ok(vm->label, false))
			violation(lease, "vm %llu: its label is too long", id);
		else if (memory_find(lease, id) || ioasid_find(lease, id))
			violation(lease, "id %llu is a VM and something else", id);
	}
}

/* NULL: it is sound by itself. */
static const char *slot_fault(const struct registry_lease *lease, const Ioasid__Registry__Slot *s)
{
	const Ioasid__Registry__Memory *memory = memory_find(lease, s->memory);
	uint64_t end;

	if (!s->size || s->guest_address + (s->size - 1) < s->guest_address)
		return "it is empty or wraps";
	if (!vm_find(lease, s->vm))
		return "its VM is not there";
	if (!memory)
		return "its memory is not there";
	if (__builtin_add_overflow(s->offset, s->size, &end) || end > memory->length)
		return "it is not inside its memory";
	return NULL;
}

static int compare_places(const void *x, const void *y)
{
	const Ioasid__Registry__Slot *a = *(const Ioasid__Registry__Slot *const *)x;
	const Ioasid__Registry__Slot *b = *(const Ioasid__Registry__Slot *const *)y;

	if (a->vm != b->vm)
		return a->vm < b->vm ? -1 : 1;
	return a->guest_address < b->guest_address ? -1 : a->guest_address > b->guest_address;
}

/* By number they are sorted already; that none overlaps another shows by address. */
static int check_slots(struct registry_lease *lease)
{
	const Ioasid__Registry__Slot **places;

	for (size_t i = 0; i < lease->n_slots; i++) {
		const Ioasid__Registry__Slot *s = lease->slots[i];
		const char *fault = slot_fault(lease, s);

		if (fault)
			violation(lease, "vm %llu slot %u: %s", (unsigned long long)s->vm, s->slot,
				  fault);
	}
	if (lease->n_slots < 2)
		return 0;
	places = calloc(lease->n_slots, sizeof(*places));
	if (!places)
		return -ENOMEM;
	memcpy(places, lease->slots, lease->n_slots * sizeof(*places));
	qsort(places, lease->n_slots, sizeof(*places), compare_places);
	for (size_t i = 1; i < lease->n_slots; i++)
		if (places[i - 1]->vm == places[i]->vm &&
		    places[i - 1]->guest_address + (places[i - 1]->size - 1) >=
			    places[i]->guest_address)
			violation(lease, "vm %llu: slots %u and %u overlap",
				  (unsigned long long)places[i]->vm, places[i - 1]->slot,
				  places[i]->slot);
	free(places);
	return 0;
}

static void check_devices(struct registry_lease *lease)
{
	for (size_t i = 0; i < lease->n_devices; i++)
		if (!text_ok(lease->devices[i]->address, true) ||
		    !bytes_ok(&lease->devices[i]->saved))
			violation(lease, "a device has no address, or one that is too long");
	for (size_t i = 0; i < lease->n_attachments; i++) {
		const Ioasid__Registry__Attachment *a = lease->attachments[i];

		if (!device_is_claimed(lease, a->device))
			violation(lease, "device %.64s is attached and not claimed", a->device);
		else if (!ioasid_find(lease, a->ioasid))
			violation(lease,
				  "device %.64s is attached to ioasid %llu, which is not there",
				  a->device, (unsigned long long)a->ioasid);
		else if (!bytes_ok(&a->saved))
			violation(lease, "device %.64s: what its attachment saved is too long",
				  a->device);
	}
}

static void check_keys(struct registry_lease *lease)
{
	for (size_t i = 0; i < lease->n_keys; i++)
		if (!key_ok(lease->keys[i]))
			violation(lease, "key %.64s: a text of it is empty or too long",
				  lease->keys[i]->key);
}

static void check_intent(struct registry_lease *lease)
{
	const Ioasid__Registry__Intent *intent = lease->intent;

	if (!intent)
		return;
	if (!text_ok(intent->method, true) || intent->method[0] != '/' ||
	    !text_ok(intent->key, false) || !bytes_ok(&intent->answer))
		violation(lease, "the intent names no method, or a text of it is too long");
	if (intent->ioasid == UINT64_MAX || intent->memory == UINT64_MAX ||
	    intent->vm == UINT64_MAX)
		violation(lease, "the intent names an id that none can be");
	for (size_t i = 0; i < intent->n_devices; i++)
		if (!text_ok(intent->devices[i], true))
			violation(lease, "the intent names a device without address");
	for (size_t i = 0; i < intent->n_ranges; i++)
		if (intent->ranges[i]->iova > intent->ranges[i]->last)
			violation(lease, "the intent has a range that ends before it begins");
}

/* ---- between leases ---- */

/* missing: of each lease, whether it lacks changes. */
struct claim {
	const char *address;
	struct registry_lease *lease; /* NULL: held */
};

static int compare_claims(const void *x, const void *y)
{
	const struct claim *a = x, *b = y;

	return strcmp(a->address, b->address);
}

/* Its release has begun: that it is held, and that the lease has it no more, are two batches. */
static bool is_being_released(const struct registry_lease *lease, const char *address)
{
	const Ioasid__Registry__Intent *intent = lease->intent;

	for (size_t i = 0; intent && i < intent->n_devices; i++)
		if (!strcmp(intent->devices[i], address))
			return true;
	return false;
}

static bool is_closing(const struct registry_lease *lease)
{
	return lease->lease && lease->lease->closing;
}

/*
 * A device has one lease, or is held, or neither.  One of a lease whose end has begun may be held
 * already: that it is held and that the lease is gone are two batches.
 */
static int check_claims(struct image *image, const bool *missing)
{
	const struct registry_image *it = &image->image;
	struct claim *claims;
	/* Of lease 0, too, changes may be missing. */
	const size_t n_held = *it->damage ? 0 : it->n_held;
	size_t n = n_held;

	for (size_t i = 0; i < it->n_leases; i++)
		n += missing[i] ? 0 : it->leases[i].n_devices;
	if (!n)
		return 0;
	claims = calloc(n, sizeof(*claims));
	if (!claims)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < it->n_leases; i++)
		for (size_t k = 0; !missing[i] && k < it->leases[i].n_devices; k++)
			claims[n++] =
				(struct claim){it->leases[i].devices[k]->address, &it->leases[i]};
	for (size_t i = 0; i < n_held; i++)
		claims[n++] = (struct claim){it->held[i]->address, NULL};
	qsort(claims, n, sizeof(*claims), compare_claims);
	for (size_t i = 1; i < n; i++) {
		if (strcmp(claims[i - 1].address, claims[i].address))
			continue;
		for (size_t k = i - 1; k <= i; k++) {
			const struct claim *other = &claims[2 * i - 1 - k];

			if (claims[k].lease && other->lease)
				violation(claims[k].lease,
					  "device %.64s is claimed by lease %llu, too",
					  claims[k].address,
					  (unsigned long long)other->lease->serial);
			else if (claims[k].lease && !is_closing(claims[k].lease) &&
				 !is_being_released(claims[k].lease, claims[k].address))
				violation(claims[k].lease,
					  "device %.64s is claimed, and held for its last holder",
					  claims[k].address);
		}
	}
	free(claims);
	return 0;
}

static int compare_names(const void *x, const void *y)
{
	const struct registry_lease *a = *(struct registry_lease *const *)x;
	const struct registry_lease *b = *(struct registry_lease *const *)y;
	int r = strcmp(a->lease->tenant, b->lease->tenant);

	return r ? r : strcmp(a->lease->name, b->lease->name);
}

/* The name of a lease whose end has begun may have been given again. */
static int check_names(struct image *image, const bool *missing)
{
	struct registry_image *it = &image->image;
	struct registry_lease **named;
	size_t n = 0;

	named = calloc(it->n_leases ? it->n_leases : 1, sizeof(*named));
	if (!named)
		return -ENOMEM;
	for (size_t i = 0; i < it->n_leases; i++)
		if (!missing[i] && it->leases[i].lease && *it->leases[i].lease->name &&
		    !is_closing(&it->leases[i]))
			named[n++] = &it->leases[i];
	qsort(named, n, sizeof(struct registry_lease *), compare_names);
	for (size_t i = 1; i < n; i++) {
		if (compare_names(&named[i - 1], &named[i]))
			continue;
		violation(named[i - 1], "lease %llu has the same tenant and name",
			  (unsigned long long)named[i]->serial);
		violation(named[i], "lease %llu has the same tenant and name",
			  (unsigned long long)named[i - 1]->serial);
	}
	free(named);
	return 0;
}

/* What belongs to no lease. */
static void check_zero(struct registry_image *image)
{
	for (size_t i = 0; i < image->n_tenants; i++) {
		const Ioasid__Registry__Tenant *tenant = image->tenants[i];
		bool ok = text_ok(tenant->path, true);

		for (size_t k = 0; k < tenant->n_limits; k++)
			ok = ok && text_ok(tenant->limits[k]->resource, true);
		if (!ok)
			violation(image, "tenant %.64s: a text of it is empty or too long",
				  tenant->path);
	}
	for (size_t i = 0; i < image->n_held; i++)
		if (!text_ok(image->held[i]->address, true) ||
		    !text_ok(image->held[i]->tenant, false))
			violation(image, "a held device has no address");
	for (size_t i = 0; i < image->n_keys; i++)
		if (!key_ok(image->keys[i]))
			violation(image, "key %.64s: a text of it is empty or too long",
				  image->keys[i]->key);
}

int image_check(struct image *image)
{
	bool *missing = calloc(image->image.n_leases + 1, sizeof(*missing));
	int r = 0;

	if (!missing)
		return -ENOMEM;
	for (size_t i = 0; i < image->image.n_leases; i++) {
		struct registry_lease *lease = &image->image.leases[i];

		missing[i] = *lease->damage;
		if (missing[i])
			continue;
		check_record(lease);
		check_memories(lease);
		check_ioasids(lease);
		check_mappings(lease);
		check_vms(lease);
		r = r ?: check_slots(lease);
		check_devices(lease);
		check_keys(lease);
		check_intent(lease);
	}
	if (!r)
		r = check_claims(image, missing);
	if (!r)
		r = check_names(image, missing);
	free(missing);
	check_zero(&image->image);
	return r;
}
