/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects of one lease, made again from its records.
 *
 * Where the shim's objects have outlived the broker they are found again and nothing in the
 * kernel changes; the software IOMMU is programmed anew, as hardware that lost its power.
 * Charges are taken by the same arithmetic as at first.
 *
 * What is half made when something fails is complete enough for lease_discard(): every object
 * is counted and in its lists before the next step can fail.  Before the broker serves.
 */
#include "server/broker/restore.h"

#include "kernel-shim/keeper/client.h"
#include "server/broker/attachment.h"
#include "server/broker/device.h"
#include "server/broker/dma_service.h"
#include "server/broker/event.h"
#include "server/broker/ioasid.h"
#include "server/broker/iova_ranges.h"
#include "server/broker/kept_fd.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"
#include "server/broker/mapping.h"
#include "server/broker/memory.h"
#include "server/broker/negotiate.h"
#include "server/broker/page_table.h"
#include "server/broker/vm.h"
#include "server/broker/pasid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

/* Mappings that are given to the shim at once. */
#define MAPS 256

static bool saved_from(const ProtobufCBinaryData *bytes, struct shim_saved *ret_saved)
{
	if (bytes->len > SHIM_SAVED_MAX)
		return false;
	*ret_saved = (struct shim_saved){.n = bytes->len};
	if (bytes->len)
		memcpy(ret_saved->bytes, bytes->data, bytes->len);
	return true;
}

static struct object *find_any(struct lease *lease, enum object_type type, uint64_t id)
{
	struct object *o = id ? lease_any_after(lease, id - 1) : NULL;

	return o && o->id.value == id && o->type == type ? o : NULL;
}

static struct ioasid *find_ioasid(struct lease *lease, uint64_t id)
{
	struct object *o = find_any(lease, OBJECT_IOASID, id);

	return o ? CONTAINER_OF(o, struct ioasid, object) : NULL;
}

static struct vm *find_vm(struct lease *lease, uint64_t id)
{
	struct object *o = find_any(lease, OBJECT_VM, id);

	return o ? CONTAINER_OF(o, struct vm, object) : NULL;
}

/* ids come from the registry, and next_id is above them already. */
static void publish_as(struct lease *lease, struct object *object, uint64_t id)
{
	uint64_t next = lease->next_id;

	lease->next_id = id;
	lease_publish(lease, object);
	lease->next_id = next;
}

/* ---- devices ---- */

static void device_is_gone(struct restoring *restoring, const char *address)
{
	struct lease *lease = restoring->lease;

	broker_log(lease->broker, LOG_WARNING,
		   "lease %llu of tenant %s: device %s is not there any more",
		   (unsigned long long)lease->serial, lease->tenant->path, address);
	event_emit(lease->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_DEVICE_REMOVED, lease->tenant,
		   lease, 0, address, NULL);
}

static int device_adopt(struct restoring *restoring, struct device *d,
			const Ioasid__Registry__Device *r)
{
	struct quota_amount amount = {QUOTA_DEVICES, 1};
	struct lease *lease = restoring->lease;
	struct quota_refusal refusal;
	int e = charge_take(&d->charge, lease->tenant, &amount, 1, &refusal);

	if (e)
		return e < 0 ? e : -EOVERFLOW;
	d->lease = lease;
	d->fd_given = r->fd_given;
	TAILQ_INSERT_TAIL(&lease->devices, d, link);
	lease->n_devices++;
	return 0;
}

static int device_restore(struct restoring *restoring, const Ioasid__Registry__Device *r)
{
	struct lease *lease = restoring->lease;
	struct device *d = device_find(lease->broker, r->address);
	char reason[SHIM_REASON_MAX] = "", what[64];
	struct shim_dev *shim = NULL;
	struct shim_ctx *ctx;
	int e;

	snprintf(what, sizeof(what), "device %s", r->address);
	if (!d) {
		device_is_gone(restoring, r->address);
		return 0;
	}
	if (d->lease || d->held)
		return restore_fail(restoring, "%s: another lease has it", what);
	if (!saved_from(&r->saved, &d->saved))
		return restore_fail(restoring, "%s: not what this shim wrote", what);
	e = lease_context(lease, reason, &ctx);
	if (!e && shim_restores(lease->broker->shim))
		e = shim_dev_restore(ctx, r->address, &d->saved, &shim);
	else if (!e)
		e = shim_dev_bind_one(ctx, r->address, reason, &shim);
	/* Its release had begun, and was done. */
	if (e == SHIM_E_GONE && restore_intent_names_device(restoring, r->address))
		return 0;
	if (e == SHIM_E_NO_DEVICE) {
		device_is_gone(restoring, r->address);
		return 0;
	}
	if (e)
		return restore_shim_error(restoring, e, what, reason);
	e = device_adopt(restoring, d, r);
	if (e) {
		/* The context goes as a whole. */
		return e;
	}
	d->shim = shim;
	d->bound = true;
	return 0;
}

int restore_devices(struct restoring *restoring)
{
	int r = 0;

	for (size_t i = 0; i < restoring->from->n_devices && !r; i++)
		r = device_restore(restoring, restoring->from->devices[i]);
	return r;
}

/* ---- memory ---- */

static int memory_fd(struct restoring *restoring, struct memory *m, uint64_t id)
{
	struct lease *lease = restoring->lease;
	struct stat st;
	int r;

	if (!lease->broker->kept_fds)
		return restore_fail(restoring, "memory %llu: no keeper keeps its fd",
				    (unsigned long long)id);
	r = kept_fd_new(lease->broker, lease->tenant->path, lease->serial, id, &m->kept);
	if (r)
		return r;
	r = kept_fd_take(m->kept, &m->fd);
	if (r == KEEPER_E_NOT_FOUND)
		return restore_fail(restoring, "memory %llu: the keeper does not have its fd",
				    (unsigned long long)id);
	if (r)
		return r < 0 ? r : -EPROTO;
	if (fstat(m->fd, &st) < 0)
		return -errno;
	if (st.st_dev != m->key.dev || st.st_ino != m->key.ino ||
	    (uint64_t)st.st_size < m->offset + m->length)
		return restore_fail(restoring, "memory %llu: the keeper has another file for it",
				    (unsigned long long)id);
	return 0;
}

static int memory_charge_again(struct lease *lease, struct memory *m)
{
	struct quota_amount bytes = {QUOTA_BROKER_BYTES, sizeof(*m)}, fd = {QUOTA_KEPT_FDS, 1};
	struct quota_refusal refusal;
	int r;

	r = charge_take(&m->charge, lease->tenant, &bytes, 1, &refusal);
	if (!r)
		r = charge_take(&m->fd_charge, lease->tenant, &fd, 1, &refusal);
	if (!r)
		r = page_charge_take(&m->registered, lease->tenant, QUOTA_REGISTERED_BYTES, m->key,
				     m->offset, m->offset + m->length, &refusal);
	return r > 0 ? -EOVERFLOW : r;
}

static int memory_restore(struct restoring *restoring, const Ioasid__Registry__Memory *r)
{
	struct lease *lease = restoring->lease;
	struct memory *m = calloc(1, sizeof(*m));
	char reason[SHIM_REASON_MAX] = "", what[64];
	struct shim_ctx *ctx;
	int e;

	if (!m)
		return -ENOMEM;
	*m = (struct memory){
		.object = {.lease = lease, .type = OBJECT_MEMORY},
		.fd = -1,
		.key = {.dev = r->dev, .ino = r->ino},
		.offset = r->offset,
		.length = r->length,
		.page_size = r->page_size,
		.prot = r->prot,
	};
	snprintf(m->label, sizeof(m->label), "%s", r->label);
	lease->n_memory++;
	lease->registered_bytes += m->length;
	publish_as(lease, &m->object, r->id);
	e = memory_charge_again(lease, m);
	if (!e)
		e = memory_fd(restoring, m, r->id);
	if (e)
		return e;
	snprintf(what, sizeof(what), "memory %llu", (unsigned long long)r->id);
	e = lease_context(lease, reason, &ctx);
	if (!e)
		e = shim_mem_register(ctx, m->fd, m->offset, m->length, m->prot, &m->shim);
	return e ? restore_shim_error(restoring, e, what, reason) : 0;
}

int restore_memories(struct restoring *restoring)
{
	int r = 0;

	for (size_t i = 0; i < restoring->from->n_memories && !r; i++)
		r = memory_restore(restoring, restoring->from->memories[i]);
	return r;
}

/* ---- virtual machines ---- */

/* They are made anew: no shim whose objects outlive the broker has them. */
static int vm_restore_one(struct restoring *restoring, const Ioasid__Registry__Vm *r)
{
	struct lease *lease = restoring->lease;
	char reason[SHIM_REASON_MAX] = "", what[64];
	struct shim_ctx *ctx;
	struct vm *vm;
	int e = vm_restore(lease, r, &vm);

	if (e)
		return e;
	snprintf(what, sizeof(what), "vm %llu", (unsigned long long)r->id);
	if (shim_restores(lease->broker->shim))
		return restore_fail(restoring, "%s: this shim has none", what);
	e = lease_context(lease, reason, &ctx);
	if (!e)
		e = shim_vm_create(ctx, &vm->shim);
	return e ? restore_shim_error(restoring, e, what, reason) : 0;
}

static int slot_restore(struct restoring *restoring, const Ioasid__Registry__Slot *r)
{
	struct object *o = find_any(restoring->lease, OBJECT_MEMORY, r->memory);
	char what[64];
	int e;

	e = vm_slot_restore(find_vm(restoring->lease, r->vm), r,
			    CONTAINER_OF(o, struct memory, object));
	if (!e || e == -ENOMEM || e == -EOVERFLOW)
		return e;
	snprintf(what, sizeof(what), "vm %llu slot %u", (unsigned long long)r->vm, r->slot);
	return restore_shim_error(restoring, e, what, NULL);
}

int restore_vms(struct restoring *restoring)
{
	const struct registry_lease *from = restoring->from;
	int r = 0;

	for (size_t i = 0; i < from->n_vms && !r; i++)
		r = vm_restore_one(restoring, from->vms[i]);
	for (size_t i = 0; i < from->n_slots && !r; i++)
		r = slot_restore(restoring, from->slots[i]);
	return r;
}

/* ---- I/O address spaces ---- */

static int ioasid_charge_again(struct lease *lease, struct ioasid *i)
{
	struct quota_amount amounts[CHARGE_AMOUNTS_MAX];
	struct quota_refusal refusal;
	size_t n = ioasid_amounts(i->kind, i->n_devices, i->label ? strlen(i->label) : 0, amounts);
	int r = charge_take(&i->charge, lease->tenant, amounts, n, &refusal);

	return r > 0 ? -EOVERFLOW : r;
}

/* Those that the host still has. */
static int ioasid_devices(struct lease *lease, struct ioasid *i, const Ioasid__Registry__Ioasid *r)
{
	if (!r->n_devices)
		return 0;
	i->devices = calloc(r->n_devices, sizeof(struct device *));
	if (!i->devices)
		return -ENOMEM;
	for (size_t k = 0; k < r->n_devices; k++) {
		struct device *d = device_find(lease->broker, r->devices[k]);

		if (d)
			i->devices[i->n_devices++] = d;
	}
	return 0;
}

static int ioasid_choice(struct lease *lease, struct ioasid *i, const Ioasid__Registry__Ioasid *r)
{
	i->choice = (struct choice){
		.format = (enum shim_format)r->format,
		.input_bits = r->input_bits,
		.output_bits = r->output_bits,
		.enforce_snoop = r->enforce_snoop,
		.kernel_chosen = r->kernel_chosen,
		.execute = r->execute,
		.write_only = r->write_only,
		.page_sizes = r->page_sizes,
	};
	return iova_ranges_intern(lease->broker, r->valid, r->n_valid / 2, &i->choice.valid);
}

static int ioasid_binding(struct ioasid *i, const Ioasid__Registry__Ioasid *r)
{
	const Ioasid__Registry__BoundPasidTable *p = r->bound_pasid_table;

	if (r->bound_table) {
		i->binding.kind = BINDING_TABLE;
		i->binding.table = (struct shim_table){
			.root = r->bound_table->root,
			.flags = r->bound_table->flags,
		};
	} else if (p) {
		i->binding.kind = BINDING_PASID_TABLE;
		i->binding.pasid_table = (struct shim_pasid_table){
			.format = (enum shim_pasid_format)p->format,
			.root = p->root,
			.pasid_bits = (uint8_t)p->pasid_bits,
			.shape = p->shape,
		};
	}
	return r->bound_table && p ? -EPROTO : 0;
}

static int ioasid_table(struct restoring *restoring, struct ioasid *i,
			const Ioasid__Registry__Ioasid *r)
{
	struct lease *lease = restoring->lease;
	bool restores = shim_restores(lease->broker->shim);
	struct shim_dev *devices[NEGOTIATE_DEVICES_MAX];
	char reason[SHIM_REASON_MAX] = "", what[64];
	struct shim_pt_spec spec = {
		.kind = i->kind,
		.format = i->choice.format,
		.input_bits = i->choice.input_bits,
		.enforce_snoop = i->choice.enforce_snoop,
		.dirty_tracking = i->dirty_tracking,
		.faults = i->faults,
		.parent = i->parent ? i->parent->pt : NULL,
		.vm = i->vm ? i->vm->shim : NULL,
		.table = i->binding.kind == BINDING_TABLE ? &i->binding.table : NULL,
		.devices = devices,
	};
	struct shim_ctx *ctx;
	int e;

	for (uint32_t k = 0; k < i->n_devices; k++)
		if (i->devices[k]->lease == lease && i->devices[k]->shim &&
		    spec.n_devices < NEGOTIATE_DEVICES_MAX)
			devices[spec.n_devices++] = i->devices[k]->shim;
	snprintf(what, sizeof(what), "ioasid %llu", (unsigned long long)r->id);
	e = lease_context(lease, reason, &ctx);
	if (!e && restores)
		e = shim_pt_restore(ctx, &spec, &i->saved, &i->pt);
	else if (!e)
		e = shim_pt_create(ctx, &spec, reason, &i->pt);
	if (!e && !restores && i->binding.kind == BINDING_PASID_TABLE)
		e = page_table_apply(i, reason);
	/* Its end had begun, and was done. */
	if (e == SHIM_E_GONE && (r->freed || (restore_intent_is(restoring, "Free") &&
					      restoring->intent->ioasid == r->id)))
		return 0;
	return e ? restore_shim_error(restoring, e, what, reason) : 0;
}

static int ioasid_restore(struct restoring *restoring, const Ioasid__Registry__Ioasid *r)
{
	struct lease *lease = restoring->lease;
	struct ioasid *i = calloc(1, sizeof(*i));
	int e;

	if (!i)
		return -ENOMEM;
	i->object = (struct object){.lease = lease, .type = OBJECT_IOASID};
	i->kind = (enum shim_kind)r->kind;
	i->dirty_tracking = r->dirty_tracking;
	i->faults = r->faults;
	i->tracking = r->tracking;
	i->choose_hint = r->choose_hint;
	RB_INIT(&i->mappings);
	i->parent = find_ioasid(lease, r->parent);
	i->depth = i->parent ? i->parent->depth + 1 : 1;
	if (i->parent)
		i->parent->n_children++;
	dma_service_await(i, &(struct process_id){(pid_t)r->pid, r->start_time});
	i->vm = find_vm(lease, r->vm);
	if (i->vm)
		i->vm->n_ioasids++;
	lease->n_ioasids++;
	lease->broker->n_ioasids++;
	publish_as(lease, &i->object, r->id);
	if (r->label[0]) {
		i->label = strdup(r->label);
		if (!i->label)
			return -ENOMEM;
	}
	e = ioasid_devices(lease, i, r);
	if (!e)
		e = ioasid_choice(lease, i, r);
	if (!e)
		e = ioasid_binding(i, r);
	if (!e)
		e = ioasid_charge_again(lease, i);
	if (e)
		return e;
	if (!saved_from(&r->table, &i->saved))
		return restore_fail(restoring, "ioasid %llu: not what this shim wrote",
				    (unsigned long long)r->id);
	return ioasid_table(restoring, i, r);
}

int restore_ioasids(struct restoring *restoring)
{
	int r = 0;

	for (size_t i = 0; i < restoring->from->n_ioasids && !r; i++)
		r = ioasid_restore(restoring, restoring->from->ioasids[i]);
	return r;
}

/* ---- mappings ---- */

static int mapping_charge_again(struct lease *lease, struct mapping *m)
{
	struct quota_amount amounts[] = {
		{QUOTA_MAP_ENTRIES, 1},
		{QUOTA_MAPPED_BYTES, m->length},
		{QUOTA_BROKER_BYTES, sizeof(*m)},
	};
	struct quota_refusal refusal;
	uint64_t start, end;
	int r = charge_take(&m->charge, lease->tenant, amounts, 3, &refusal);

	if (!r && mapping_pins(m->memory, m->offset, m->length, &start, &end))
		r = page_charge_take(&m->pinned, lease->tenant, QUOTA_PINNED_BYTES, m->memory->key,
				     start, end, &refusal);
	return r > 0 ? -EOVERFLOW : r;
}

static int mapping_restore(struct restoring *restoring, struct ioasid *i,
			   const Ioasid__Registry__Mapping *r, struct shim_map *ret_map)
{
	struct lease *lease = restoring->lease;
	struct object *o = find_any(lease, OBJECT_MEMORY, r->memory);
	struct mapping *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->iova = r->iova;
	m->length = r->length;
	m->memory = o ? CONTAINER_OF(o, struct memory, object) : NULL;
	m->offset = r->offset;
	m->prot = r->prot;
	m->published = true;
	if (m->memory)
		m->memory->n_mappings++;
	mapping_insert(i, m);
	*ret_map = (struct shim_map){
		.iova = m->iova,
		.length = m->length,
		.mem = m->memory ? m->memory->shim : NULL,
		.offset = m->memory ? m->offset : 0,
		.parent_address = m->memory ? 0 : m->offset,
		.prot = m->prot,
	};
	return mapping_charge_again(lease, m);
}

static int mappings_apply(struct restoring *restoring, struct ioasid *i,
			  const struct shim_map *maps, size_t n)
{
	char what[64];
	int e;

	if (!n || !i->pt)
		return 0;
	if (shim_restores(restoring->broker->shim))
		e = shim_pt_restore_map(i->pt, maps, n);
	else
		e = shim_pt_map(i->pt, maps, n, NULL);
	snprintf(what, sizeof(what), "mappings of ioasid %llu",
		 (unsigned long long)i->object.id.value);
	return e ? restore_shim_error(restoring, e, what, NULL) : 0;
}

static int charge_table(struct ioasid *i)
{
	uint64_t bytes = i->pt ? shim_pt_table_bytes(i->pt) : 0;
	struct quota_refusal refusal;
	int r = charge_grow(&i->charge, QUOTA_BROKER_BYTES, bytes, &refusal);

	if (!r)
		i->table_bytes = bytes;
	return r > 0 ? -EOVERFLOW : r;
}

/* What was written before its tables were lost is not known. */
static int track_again(struct restoring *restoring, struct ioasid *i)
{
	char what[64];
	int e;

	if (!i->tracking || !i->pt || shim_restores(restoring->broker->shim))
		return 0;
	snprintf(what, sizeof(what), "dirty tracking of ioasid %llu",
		 (unsigned long long)i->object.id.value);
	e = shim_pt_track_dirty(i->pt, true, true);
	return e ? restore_shim_error(restoring, e, what, NULL) : 0;
}

/* Those of one IOASID, from *at on. */
static int mappings_of(struct restoring *restoring, struct ioasid *i, size_t *at)
{
	const struct registry_lease *from = restoring->from;
	struct shim_map maps[MAPS];
	size_t n = 0;
	int r = 0;

	for (; *at < from->n_mappings && !r; ++*at) {
		const Ioasid__Registry__Mapping *m = from->mappings[*at];

		if (m->ioasid != i->object.id.value)
			break;
		if (restore_intent_unmaps(restoring, m->ioasid, m->iova)) {
			restoring->unmapped++;
			restoring->unmapped_bytes += m->length;
			continue;
		}
		r = mapping_restore(restoring, i, m, &maps[n]);
		restoring->n_mappings++;
		if (!r && ++n == MAPS) {
			r = mappings_apply(restoring, i, maps, n);
			n = 0;
		}
	}
	if (!r)
		r = mappings_apply(restoring, i, maps, n);
	if (!r)
		r = track_again(restoring, i);
	return r ?: charge_table(i);
}

int restore_mappings(struct restoring *restoring)
{
	struct lease *lease = restoring->lease;
	struct object *o = NULL;
	uint64_t after = 0;
	size_t at = 0;
	int r = 0;

	/* A child maps addresses of its parent, which has a smaller id. */
	while (!r && (o = lease_any_after(lease, after))) {
		after = o->id.value;
		if (o->type == OBJECT_IOASID)
			r = mappings_of(restoring, CONTAINER_OF(o, struct ioasid, object), &at);
	}
	return r;
}

/* ---- attachments ---- */

static int attachment_restore(struct restoring *restoring, const Ioasid__Registry__Attachment *r)
{
	struct lease *lease = restoring->lease;
	struct device *d = device_find(lease->broker, r->device);
	struct ioasid *i = find_ioasid(lease, r->ioasid);
	struct quota_amount amounts[] = {
		{QUOTA_BROKER_BYTES, sizeof(struct attachment) + (r->pasid ? PASID_RECORD : 0)},
		{QUOTA_PASIDS, 1},
	};
	char reason[SHIM_REASON_MAX] = "", what[64];
	struct quota_refusal refusal;
	struct attachment *a;
	int e;

	/* Unplugged, or released: said already. */
	if (!d || d->lease != lease)
		return 0;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->device = d;
	a->pasid = r->pasid - 1;
	a->physical = r->physical_pasid ? r->physical_pasid - 1 : a->pasid;
	a->ioasid = i;
	a->published = true;
	e = pasid_restore(lease, a->pasid, a->physical, r->physical_pasid);
	if (e) {
		free(a);
		return e;
	}
	attachment_insert(lease, a);
	e = charge_take(&a->charge, lease->tenant, amounts, r->pasid ? 2 : 1, &refusal);
	if (e)
		return e < 0 ? e : -EOVERFLOW;
	snprintf(what, sizeof(what), "attachment of %s to ioasid %llu", r->device,
		 (unsigned long long)r->ioasid);
	if (!saved_from(&r->saved, &a->saved) || !i->pt)
		return restore_fail(restoring, "%s: not what this shim wrote", what);
	if (shim_restores(lease->broker->shim))
		e = shim_attach_restore(d->shim, a->physical, i->pt, &a->saved);
	else
		e = shim_attach(d->shim, a->physical, i->pt, reason);
	return e ? restore_shim_error(restoring, e, what, reason) : 0;
}

/* What was freed becomes so when everything that refers to it is there. */
static void mark_freed(struct restoring *restoring)
{
	const struct registry_lease *from = restoring->from;
	struct lease *lease = restoring->lease;

	for (size_t i = 0; i < from->n_ioasids; i++)
		if (from->ioasids[i]->freed)
			ioasid_retire(find_ioasid(lease, from->ioasids[i]->id));
	for (size_t i = 0; i < from->n_vms; i++)
		if (from->vms[i]->freed)
			vm_retire(find_vm(lease, from->vms[i]->id));
	for (size_t i = 0; i < from->n_memories; i++)
		if (from->memories[i]->freed)
			memory_retire(memory_find(lease, from->memories[i]->id));
}

int restore_attachments(struct restoring *restoring)
{
	int r = 0;

	for (size_t i = 0; i < restoring->from->n_attachments && !r; i++)
		r = attachment_restore(restoring, restoring->from->attachments[i]);
	if (!r)
		mark_freed(restoring);
	return r;
}

/* ---- keys ---- */

static int key_restore(struct key_table *table, struct tenant *payer,
		       const Ioasid__Registry__Key *r)
{
	const struct broker_method *method = broker_method_find(r->method, strlen(r->method));
	struct quota_refusal refusal;
	struct key_entry *entry;
	int e;

	/* A method that this release has no more: nobody can repeat it. */
	if (!method || strlen(r->key) > KEY_MAX)
		return 0;
	e = key_table_reserve(table, r->key, method, r->hash, payer, &refusal, &entry);
	if (e)
		return e < 0 ? e : -EOVERFLOW;
	if (r->lost)
		key_entry_lose(entry);
	else
		key_entry_keep(table, entry, r->answer.data, r->answer.len);
	return 0;
}

int restore_keys(struct key_table **keys, struct tenant *payer,
		 const Ioasid__Registry__Key *const *records, size_t n)
{
	int r = 0;

	if (n && !*keys)
		r = key_table_new(keys);
	for (size_t i = 0; i < n && !r; i++)
		r = key_restore(*keys, payer, records[i]);
	return r;
}
