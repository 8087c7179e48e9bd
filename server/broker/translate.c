/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translate: the walk of one address, level by level, by the tables and not by the IOTLB;
 * and which registered memory it ends in, by the broker's own record.
 */
#include "server/broker/translate.h"

#include "server/broker/ioasid.h"
#include "server/broker/lease.h"
#include "server/broker/mapping.h"
#include "server/broker/vm.h"

uint32_t access_to_shim(Ioasid__V1__Access access)
{
	switch (access) {
	case IOASID__V1__ACCESS__ACCESS_READ:
		return SHIM_READ;
	case IOASID__V1__ACCESS__ACCESS_WRITE:
		return SHIM_WRITE;
	case IOASID__V1__ACCESS__ACCESS_EXECUTE:
		return SHIM_EXEC;
	default:
		return 0;
	}
}

void fault_fill(Ioasid__V1__Fault *d, const struct shim_fault *fault)
{
	ioasid__v1__fault__init(d);
	d->cause = (Ioasid__V1__FaultCause)fault->cause;
	d->stage = fault->stage;
	d->level = fault->level;
	d->address = fault->address;
	d->entry = fault->entry;
	d->access = fault->access & SHIM_WRITE	? IOASID__V1__ACCESS__ACCESS_WRITE
		    : fault->access & SHIM_EXEC ? IOASID__V1__ACCESS__ACCESS_EXECUTE
						: IOASID__V1__ACCESS__ACCESS_READ;
}

Ioasid__V1__Fault *fault_describe(struct scratch *scratch, const struct shim_fault *fault)
{
	Ioasid__V1__Fault *d = scratch_alloc(scratch, sizeof(*d));

	if (d)
		fault_fill(d, fault);
	return d;
}

static bool describe_levels(struct scratch *scratch, const struct shim_walk *walk,
			    Ioasid__V1__TranslateResponse *p)
{
	Ioasid__V1__WalkLevel *levels = scratch_calloc(scratch, walk->n_levels, sizeof(*levels));

	p->levels = scratch_calloc(scratch, walk->n_levels, sizeof(*p->levels));
	if (!levels || !p->levels)
		return false;
	for (size_t i = 0; i < walk->n_levels; i++) {
		const struct shim_walk_level *l = &walk->levels[i];

		ioasid__v1__walk_level__init(&levels[i]);
		levels[i].stage = l->stage;
		levels[i].level = l->level;
		levels[i].input = l->input;
		levels[i].table = l->table;
		levels[i].index = l->index;
		levels[i].entry = l->entry;
		levels[i].decoded = scratch_strdup(scratch, l->decoded);
		if (!levels[i].decoded)
			return false;
		p->levels[p->n_levels++] = &levels[i];
	}
	return true;
}

/* Down the parents to the memory; nothing if a parent maps less than the child thinks. */
static void find_memory(struct ioasid *ioasid, uint64_t address, Ioasid__V1__TranslateResponse *p)
{
	for (; ioasid; ioasid = ioasid->parent) {
		struct vm_slot *s = ioasid->vm ? vm_slot_at(ioasid->vm, address) : NULL;
		struct mapping *m = mapping_at(ioasid, address);

		if (s) {
			p->memory = s->memory->object.id.value;
			p->offset = s->offset + (address - s->address);
			return;
		}
		if (!m)
			return;
		address = m->offset + (address - m->iova);
		if (m->memory) {
			p->memory = m->memory->object.id.value;
			p->offset = address;
			return;
		}
	}
}

/* Below a table that a tenant wrote: the walk tells which address of the root it came to. */
static void find_memory_below(struct ioasid *ioasid, const struct shim_walk *walk,
			      Ioasid__V1__TranslateResponse *p)
{
	while (ioasid->parent)
		ioasid = ioasid->parent;
	find_memory(ioasid, walk->root_address, p);
}

/* The walk where the tables are the kernel's: by what was mapped. */
static int walk_record(struct ioasid *ioasid, uint64_t iova, uint32_t access,
		       struct shim_walk *walk)
{
	const struct mapping *m = mapping_at(ioasid, iova);
	unsigned bits = ioasid->choice.input_bits;
	enum shim_fault_cause absent =
		bits < 64 && iova >> bits ? SHIM_FAULT_ADDRESS_WIDTH : SHIM_FAULT_NOT_PRESENT;

	if (m && m->published && (m->prot & access) == access) {
		walk->prot = m->prot;
		return 0;
	}
	walk->fault = (struct shim_fault){
		.cause = m && m->published ? SHIM_FAULT_PERMISSION : absent,
		.stage = 1,
		.access = access,
		.address = iova,
	};
	return 0;
}

int rpc_translate(struct broker_call *call)
{
	const Ioasid__V1__TranslateRequest *q = (const void *)call->request;
	Ioasid__V1__TranslateResponse *p = call_response(call);
	struct ioasid *ioasid = ioasid_find(call->lease, q->ioasid);
	struct shim_walk *walk = scratch_calloc(&call->scratch, 1, sizeof(*walk));
	int r;

	if (!ioasid)
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	if (q->access == IOASID__V1__ACCESS__ACCESS_UNSPECIFIED)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "access", "must be given");
	if (ioasid->kind == SHIM_KIND_PROCESS)
		return refuse(
			call, OUTCOME_UNIMPLEMENTED,
			"Translate: the table of a process is the CPU's, and read by it alone");
	if (!p || !walk)
		return refuse_no_memory(call);
	r = shim_pt_walk(ioasid->pt, q->iova, access_to_shim(q->access), walk);
	if (r == SHIM_E_UNSUPPORTED)
		r = walk_record(ioasid, q->iova, access_to_shim(q->access), walk);
	if (r)
		return refuse_shim(call, r, "walk", NULL);
	if (!describe_levels(&call->scratch, walk, p))
		return refuse_no_memory(call);
	if (walk->fault.cause) {
		p->fault = fault_describe(&call->scratch, &walk->fault);
		return p->fault ? OUTCOME_OK : refuse_no_memory(call);
	}
	p->output = walk->output;
	p->page_size = walk->page_size;
	p->read = walk->prot & SHIM_READ;
	p->write = walk->prot & SHIM_WRITE;
	p->execute = walk->prot & SHIM_EXEC;
	if (ioasid->kind == SHIM_KIND_KERNEL)
		find_memory(ioasid, q->iova, p);
	else
		find_memory_below(ioasid, walk, p);
	return OUTCOME_OK;
}
