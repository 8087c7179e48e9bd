/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request without result: what becomes of it (docs/design/registry.md, "Intents").
 *
 *	Alloc, RegisterMemory, ClaimDevice	undone: what they made nobody knows, so it is a
 *						stray, and ends as one
 *	Map					undone: whatever the kernel has of it is unmapped
 *	Attach, Replace				undone: the device goes back to where the registry
 *						says that it is
 *	SetDirtyTracking			undone: as the registry says
 *	BindPageTable, BindPasidTable		undone: what the registry says is bound again
 *	Free, Detach, ReleaseDevice, Revoke	redone: what is left of it is done
 *	UnbindPageTable, UnbindPasidTable	redone: nothing is bound
 *	Unmap					redone: no mapping of its ranges is restored, and
 *						whatever the kernel has of them is unmapped
 *
 *	CreateVm, SetMemorySlot			undone: the VM is made anew as the registry says
 *	DestroyVm, SetMemorySlot of size 0	redone
 *
 * An undone request is as if it had never been sent, and its key is free.  A redone one gets
 * its answer under its key.  Before the broker serves.
 */
#include "server/broker/restore.h"

#include "server/broker/attachment.h"
#include "server/broker/device.h"
#include "server/broker/ioasid.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"
#include "server/broker/vm.h"
#include "server/broker/page_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int restore_intent_find(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->from->intent;

	if (!i)
		return 0;
	restoring->intent = i;
	restoring->method = broker_method_find(i->method, strlen(i->method));
	if (!restoring->method)
		return restore_fail(restoring,
				    "it was in the middle of \"%.64s\", which this "
				    "release does not have",
				    i->method);
	return 0;
}

bool restore_intent_is(const struct restoring *restoring, const char *method)
{
	return restoring->method && !strcmp(strrchr(restoring->method->path, '/') + 1, method);
}

bool restore_intent_unmaps(const struct restoring *restoring, uint64_t ioasid, uint64_t iova)
{
	const Ioasid__Registry__Intent *i = restoring->intent;

	if (!restore_intent_is(restoring, "Unmap") || i->ioasid != ioasid)
		return false;
	for (size_t k = 0; k < i->n_ranges; k++)
		if (iova >= i->ranges[k]->iova && iova <= i->ranges[k]->last)
			return true;
	return false;
}

bool restore_intent_names_device(const struct restoring *restoring, const char *address)
{
	const Ioasid__Registry__Intent *i = restoring->intent;

	if (!restore_intent_is(restoring, "ReleaseDevice") &&
	    !restore_intent_is(restoring, "Revoke"))
		return false;
	for (size_t k = 0; k < i->n_devices; k++)
		if (!strcmp(i->devices[k], address))
			return true;
	return false;
}

static bool restores(const struct restoring *restoring)
{
	return shim_restores(restoring->broker->shim);
}

/* The kernel's side of the ranges; the records are not there. */
static int unmap_ranges(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	struct ioasid *ioasid = ioasid_find(restoring->lease, i->ioasid);
	struct shim_unmap *unmaps;
	int r;

	if (!ioasid || !ioasid->pt || !restores(restoring) || !i->n_ranges)
		return 0;
	unmaps = calloc(i->n_ranges, sizeof(*unmaps));
	if (!unmaps)
		return -ENOMEM;
	for (size_t k = 0; k < i->n_ranges; k++) {
		uint64_t last = i->ranges[k]->last, limit;

		/* "All" reaches beyond what a table has. */
		limit = ioasid->choice.input_bits >= 64
				? UINT64_MAX
				: (UINT64_C(1) << ioasid->choice.input_bits) - 1;
		if (last > limit)
			last = limit;
		unmaps[k].iova = i->ranges[k]->iova;
		unmaps[k].length = last - i->ranges[k]->iova + 1;
	}
	r = shim_pt_undo_map(ioasid->pt, unmaps, i->n_ranges);
	free(unmaps);
	return r ? restore_shim_error(restoring, r, "mappings that were begun", NULL) : 0;
}

static struct device *intent_device(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	struct device *d = i->n_devices ? device_find(restoring->broker, i->devices[0]) : NULL;

	return d && d->lease == restoring->lease ? d : NULL;
}

/* Where the registry says that it is: there, or nowhere. */
static int undo_attach(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	struct ioasid *target = ioasid_find(restoring->lease, i->ioasid);
	struct device *d = intent_device(restoring);
	uint32_t pasid = i->pasid - 1;
	uint32_t physical = i->physical_pasid ? i->physical_pasid - 1 : pasid;
	char reason[SHIM_REASON_MAX] = "";
	struct attachment *a;
	int r;

	if (!d || !restores(restoring) || !target || !target->pt)
		return 0;
	a = attachment_find(restoring->lease, d, pasid);
	if (a) {
		r = shim_replace(d->shim, a->physical, a->ioasid->pt, reason);
	} else {
		/* As if it had been: then it is taken away. */
		r = shim_attach_restore(d->shim, physical, target->pt, &(struct shim_saved){0});
		if (!r)
			r = shim_detach(d->shim, physical);
	}
	return r ? restore_shim_error(restoring, r, "an attachment that was begun", reason) : 0;
}

static int bind_as_recorded(struct restoring *restoring)
{
	struct ioasid *ioasid = ioasid_find(restoring->lease, restoring->intent->ioasid);
	char reason[SHIM_REASON_MAX] = "";
	int r;

	if (!ioasid || !ioasid->pt)
		return 0;
	r = page_table_apply(ioasid, reason);
	return r ? restore_shim_error(restoring, r, "a table that was being bound", reason) : 0;
}

static int redo_unbind(struct restoring *restoring)
{
	struct ioasid *ioasid = ioasid_find(restoring->lease, restoring->intent->ioasid);

	if (ioasid)
		ioasid->binding.kind = BINDING_NONE;
	return bind_as_recorded(restoring);
}

static int track_as_recorded(struct restoring *restoring)
{
	struct ioasid *ioasid = ioasid_find(restoring->lease, restoring->intent->ioasid);
	int r;

	if (!ioasid || !ioasid->pt || !restores(restoring))
		return 0;
	r = shim_pt_track_dirty(ioasid->pt, ioasid->tracking, ioasid->tracking);
	return r ? restore_shim_error(restoring, r, "dirty tracking", NULL) : 0;
}

static bool intent_binds(const struct restoring *restoring)
{
	return restore_intent_is(restoring, "BindPageTable") ||
	       restore_intent_is(restoring, "BindPasidTable");
}

static bool intent_unbinds(const struct restoring *restoring)
{
	return restore_intent_is(restoring, "UnbindPageTable") ||
	       restore_intent_is(restoring, "UnbindPasidTable");
}

static int redo_detach(struct restoring *restoring)
{
	struct device *d = intent_device(restoring);
	uint32_t pasid = restoring->intent->pasid - 1;
	struct attachment *a;
	int r;

	a = d ? attachment_find(restoring->lease, d, pasid) : NULL;
	if (!a)
		return 0;
	r = shim_detach(d->shim, a->physical);
	if (r)
		return restore_shim_error(restoring, r, "a detachment that was begun", NULL);
	attachment_reap(a);
	return 0;
}

static void redo_release(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;

	for (size_t k = 0; k < i->n_devices; k++) {
		struct device *d = device_find(restoring->broker, i->devices[k]);

		if (!d || d->lease != restoring->lease)
			continue;
		device_let_go(d);
		attachments_reap_device(d);
		device_reap(d);
	}
}

static int redo_slot(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	struct vm *vm = vm_find(restoring->lease, i->vm);
	struct vm_slot *slot = vm ? vm_slot_not_before(vm, i->slot) : NULL;
	int r;

	if (!slot || slot->number != i->slot)
		return 0;
	r = shim_vm_set_slot(vm->shim, i->slot, 0, 0, NULL, 0, 0);
	if (r)
		return restore_shim_error(restoring, r, "a slot's deletion that was begun", NULL);
	vm_slot_free(vm, slot);
	return 0;
}

static void redo_destroy_vm(struct restoring *restoring)
{
	struct vm *vm = vm_find(restoring->lease, restoring->intent->vm);

	if (vm)
		vm_retire(vm);
}

static void redo_free(struct restoring *restoring)
{
	struct ioasid *ioasid = ioasid_find(restoring->lease, restoring->intent->ioasid);

	if (ioasid)
		ioasid_retire(ioasid);
}

/* ---- the answer of a redone one ---- */

static int remember_admin_key(struct broker *broker, const Ioasid__Registry__Key *key)
{
	/* It is written before the last of what it did. */
	if (broker->keys && key_table_find(broker->keys, key->key))
		return 0;
	return restore_keys(&broker->keys, tenant_find(broker, ""), &key, 1);
}

static int remember(struct restoring *restoring, const uint8_t *answer, size_t length)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	Ioasid__Registry__Key key = IOASID__REGISTRY__KEY__INIT;
	const Ioasid__Registry__Key *keys = &key;
	struct lease *lease = restoring->lease;

	if (!i->key[0])
		return 0;
	key.key = i->key;
	key.method = i->method;
	key.hash = i->hash;
	key.answer = (ProtobufCBinaryData){.len = length, .data = (uint8_t *)answer};
	if (!i->admin_key)
		return restore_keys(&lease->keys, lease->tenant, &keys, 1);
	return remember_admin_key(restoring->broker, &key);
}

int restore_closer_key(struct restoring *restoring)
{
	const Ioasid__Registry__Lease *r = restoring->from->lease;

	if (!r || !r->closing || !r->closer)
		return 0;
	return remember_admin_key(restoring->broker, r->closer);
}

static int remember_unmap(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	Ioasid__V1__UnmapResponse p = IOASID__V1__UNMAP_RESPONSE__INIT;
	uint8_t bytes[64];

	p.mappings = i->done_mappings + restoring->unmapped;
	p.bytes = i->done_bytes + restoring->unmapped_bytes;
	return remember(restoring, bytes, protobuf_c_message_pack(&p.base, bytes));
}

static int undo(struct restoring *restoring)
{
	restoring->broker->restart.undone++;
	if (restore_intent_is(restoring, "Map"))
		return unmap_ranges(restoring);
	if (restore_intent_is(restoring, "Attach") || restore_intent_is(restoring, "Replace"))
		return undo_attach(restoring);
	if (restore_intent_is(restoring, "SetDirtyTracking"))
		return track_as_recorded(restoring);
	if (intent_binds(restoring))
		return bind_as_recorded(restoring);
	return 0;
}

static int redo(struct restoring *restoring)
{
	const Ioasid__Registry__Intent *i = restoring->intent;
	int r = 0;

	restoring->broker->restart.redone++;
	if (restore_intent_is(restoring, "Unmap")) {
		r = unmap_ranges(restoring);
		return r ?: remember_unmap(restoring);
	}
	if (restore_intent_is(restoring, "Detach"))
		r = redo_detach(restoring);
	else if (restore_intent_is(restoring, "Free"))
		redo_free(restoring);
	else if (restore_intent_is(restoring, "DestroyVm"))
		redo_destroy_vm(restoring);
	else if (restore_intent_is(restoring, "SetMemorySlot"))
		r = redo_slot(restoring);
	else if (intent_unbinds(restoring))
		r = redo_unbind(restoring);
	else
		redo_release(restoring);
	return r ?: remember(restoring, i->answer.data, i->answer.len);
}

int restore_intent_settle(struct restoring *restoring)
{
	static const char *const made[] = {"Alloc",	    "RegisterMemory", "ClaimDevice",
					   "Map",	    "Attach",	      "Replace",
					   "BindPageTable", "BindPasidTable", "SetDirtyTracking",
					   "CreateVm"};

	if (!restoring->intent)
		return 0;
	if (restore_intent_is(restoring, "SetMemorySlot") && !restoring->intent->deletes)
		return undo(restoring);
	for (size_t k = 0; k < sizeof(made) / sizeof(made[0]); k++)
		if (restore_intent_is(restoring, made[k]))
			return undo(restoring);
	return redo(restoring);
}
