/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check: does what the broker counts agree with what it has?
 *
 * A pass goes over every object in slices and adds up, for each tenant, what its objects are
 * charged; then the sums are compared with the counters, the counters with each other up the
 * tree, and the registry, read again on a worker as the next broker would read it, with the
 * leases.  That is worth something only if nothing changed meanwhile: every charge moves
 * broker->charge_changes, and a pass during which it moved is made again, TRIES times; then the
 * caller is told that the broker is too busy.
 *
 * Owns the sums and the cursor.  Changes nothing.  State thread, but for the reading.
 */
#include "server/broker/rpc_check.h"

#include "server/broker/attachment.h"
#include "server/broker/delegation.h"
#include "server/broker/dma_service.h"
#include "server/broker/event.h"
#include "server/broker/fault.h"
#include "server/broker/ioasid.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"
#include "server/broker/mapping.h"
#include "server/broker/memory.h"
#include "server/broker/ticket.h"
#include "server/broker/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TRIES 20
/* Between two tries. */
#define PAUSE_NS     20000000
#define PROBLEMS_MAX 1000
#define SLICE	     2048
/* Mappings of an IOASID that the shim is asked about. */
#define WALKS 8

/* What a lease's objects come to. */
struct lease_sums {
	uint64_t serial;
	uint64_t ioasids, memories, mappings, attachments, devices;
	uint64_t children, attached, memory_mappings; /* as the objects count them */
	uint64_t vms, slots, vm_ioasids;
	uint64_t with_parent, of_memory, of_vm; /* as those who refer say */
};

struct check {
	struct broker_call *call;
	unsigned tries;
	uint64_t changes; /* charge_changes when the pass began */
	uint64_t (*sums)[_QUOTA_COUNTED_MAX];
	size_t n_tenants;
	struct lease_sums *leases;
	size_t n_leases, room;
	uint64_t objects;
	/* The cursor. */
	struct lease *lease;
	uint64_t object;
	bool in_mappings;
	uint64_t iova;
	unsigned budget;
	/* Read by the worker. */
	struct registry_image *image;
	struct registry_problem problem;
	int result;
};

static void __attribute__((format(printf, 3, 4)))
complain(struct check *c, const char *subject, const char *format, ...)
{
	Ioasid__V1__CheckResponse *p = (void *)c->call->response;
	struct scratch *s = &c->call->scratch;
	Ioasid__V1__CheckProblem *problem;
	va_list ap;

	if (p->n_problems == PROBLEMS_MAX) {
		p->omitted++;
		return;
	}
	problem = scratch_alloc(s, sizeof(*problem));
	if (!problem) {
		p->omitted++;
		return;
	}
	ioasid__v1__check_problem__init(problem);
	problem->subject = scratch_strdup(s, subject);
	va_start(ap, format);
	problem->text = scratch_vprintf(s, format, ap);
	va_end(ap);
	if (problem->subject && problem->text)
		p->problems[p->n_problems++] = problem;
	else
		p->omitted++;
}

static void __attribute__((format(printf, 3, 4)))
complain_of_lease(struct check *c, uint64_t serial, const char *format, ...)
{
	char subject[48], text[256];
	va_list ap;

	snprintf(subject, sizeof(subject), "lease %llu", (unsigned long long)serial);
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	complain(c, subject, "%s", text);
}

/* ---- sums ---- */

static void add(struct check *c, const struct charge *charge)
{
	if (!charge->tenant)
		return;
	for (uint32_t i = 0; i < charge->n; i++)
		c->sums[charge->tenant->check_index][charge->amounts[i].resource] +=
			charge->amounts[i].amount;
}

static void add_session(struct check *c, const struct broker_session *s)
{
	const struct broker_call *call;

	add(c, &s->charge);
	LIST_FOREACH(call, &s->calls, of_session)
	add(c, &call->charge);
}

static void add_keys(struct check *c, const struct key_table *keys)
{
	for (const struct key_entry *e = key_table_oldest(keys); e; e = key_entry_newer(e))
		add(c, key_entry_charge(e));
}

/* What belongs to no lease: bounded by limits of the host, so it is one slice. */
static void add_host(struct check *c)
{
	struct broker *broker = c->call->broker;
	const struct broker_session *s;
	const struct device *d;

	TAILQ_FOREACH(s, &broker->sessions, all)
	add_session(c, s);
	TAILQ_FOREACH(d, &broker->held, link)
	add(c, &d->charge);
	delegations_each_charge(broker, (delegation_charge_fn)add, c);
	add_keys(c, broker->keys);
	event_watchers_each(broker->events, (event_charge_fn)add, c);
	/* Unions of pages have no owner but their tenant. */
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		c->sums[t->check_index][QUOTA_REGISTERED_BYTES] += t->registered.bytes;
		c->sums[t->check_index][QUOTA_PINNED_BYTES] += t->pinned.bytes;
	}
}

static struct lease_sums *sums_of(struct check *c)
{
	return &c->leases[c->n_leases - 1];
}

static bool add_lease(struct check *c, struct lease *lease)
{
	const struct attachment *a;
	const struct ticket *ticket;
	const struct device *d;
	struct lease_sums *sums;

	if (c->n_leases == c->room) {
		size_t room = c->room ? 2 * c->room : 64;
		struct lease_sums *grown = reallocarray(c->leases, room, sizeof(*grown));

		if (!grown)
			return false;
		c->leases = grown;
		c->room = room;
	}
	sums = &c->leases[c->n_leases++];
	*sums = (struct lease_sums){.serial = lease->serial};
	add(c, &lease->charge);
	add_keys(c, lease->keys);
	faults_each_charge(lease, (fault_charge_fn)add, c);
	dma_services_each_charge(lease, (dma_service_charge_fn)add, c);
	LIST_FOREACH(ticket, &lease->tickets, of_lease)
	{
		add(c, &ticket->charge);
		add(c, &ticket->fd_charge);
	}
	TAILQ_FOREACH(d, &lease->devices, link)
	{
		add(c, &d->charge);
		sums->devices++;
	}
	for (a = attachment_first(lease); a; a = attachment_next(lease, (struct attachment *)a)) {
		add(c, &a->charge);
		sums->attachments++;
	}
	return true;
}

/* Does the shim translate it to where it should?  Not while an op may be at the table. */
static void walk_mapping(struct check *c, const struct lease *lease, const struct ioasid *i,
			 const struct mapping *m)
{
	struct shim_walk walk;

	if (lease->active || !i->pt || !lease->broker->shim->ops->pt_walk || !m->memory)
		return;
	if (shim_pt_walk(i->pt, m->iova, m->prot & (SHIM_READ | SHIM_WRITE), &walk))
		return;
	if (walk.fault.cause || walk.mem != m->memory->shim || walk.offset != m->offset)
		complain_of_lease(c, lease->serial,
				  "ioasid %llu: the shim does not translate 0x%llx as it is mapped",
				  (unsigned long long)i->object.id.value,
				  (unsigned long long)m->iova);
}

static void add_ioasid(struct check *c, struct lease *lease, struct ioasid *i)
{
	struct lease_sums *sums = sums_of(c);

	add(c, &i->charge);
	sums->ioasids++;
	sums->children += i->n_children;
	sums->attached += i->n_attachments;
	sums->with_parent += i->parent != NULL;
	sums->of_vm += i->vm != NULL;
	if (!lease->active && i->pt && shim_pt_table_bytes(i->pt) != i->table_bytes)
		complain_of_lease(
			c, lease->serial,
			"ioasid %llu: %llu bytes of tables are charged, the shim has %llu",
			(unsigned long long)i->object.id.value, (unsigned long long)i->table_bytes,
			(unsigned long long)shim_pt_table_bytes(i->pt));
	c->in_mappings = i->n_mappings > 0;
	c->iova = 0;
}

static void add_mappings(struct check *c, struct lease *lease)
{
	struct object *o = lease_any_after(lease, c->object - 1);
	struct lease_sums *sums = sums_of(c);
	struct ioasid *i = CONTAINER_OF(o, struct ioasid, object);
	struct mapping *m = mapping_not_before(i, c->iova);
	unsigned walks = c->iova ? 0 : WALKS;

	for (; m && c->budget; m = mapping_next(i, m)) {
		add(c, &m->charge);
		sums->mappings++;
		sums->of_memory += m->memory != NULL;
		if (walks && m->published) {
			walks--;
			walk_mapping(c, lease, i, m);
		}
		c->budget--;
	}
	c->in_mappings = m != NULL;
	if (m)
		c->iova = m->iova;
}

/* At most VM_SLOTS_MAX slots, in one slice. */
static void add_vm(struct check *c, struct lease *lease, struct vm *vm)
{
	struct lease_sums *sums = sums_of(c);
	uint64_t bytes = 0, n = 0;
	struct vm_slot *s;

	add(c, &vm->charge);
	sums->vms++;
	sums->vm_ioasids += vm->n_ioasids;
	for (s = vm_slot_first(vm); s; s = vm_slot_next(s)) {
		add(c, &s->charge);
		bytes += s->table_bytes;
		n++;
	}
	if (bytes != vm->table_bytes || n != vm->n_slots)
		complain_of_lease(c, lease->serial, "vm %llu: its slots are not what it counts",
				  (unsigned long long)vm->object.id.value);
	sums->slots += n;
	sums->of_memory += n;
}

static void add_object(struct check *c, struct lease *lease, struct object *o)
{
	struct memory *m;

	c->object = o->id.value;
	c->objects++;
	if (o->type == OBJECT_IOASID) {
		add_ioasid(c, lease, CONTAINER_OF(o, struct ioasid, object));
		return;
	}
	if (o->type == OBJECT_VM) {
		add_vm(c, lease, CONTAINER_OF(o, struct vm, object));
		return;
	}
	m = CONTAINER_OF(o, struct memory, object);
	add(c, &m->charge);
	add(c, &m->fd_charge);
	sums_of(c)->memories++;
	sums_of(c)->memory_mappings += m->n_mappings;
}

/* ---- comparisons ---- */

static void compare(struct check *c, uint64_t serial, const char *what, uint64_t counted,
		    uint64_t found)
{
	if (counted != found)
		complain_of_lease(c, serial, "%s: %llu counted, %llu found", what,
				  (unsigned long long)counted, (unsigned long long)found);
}

static void end_lease(struct check *c, const struct lease *lease)
{
	const struct lease_sums *s = sums_of(c);

	compare(c, s->serial, "ioasids", lease->n_ioasids, s->ioasids);
	compare(c, s->serial, "memories", lease->n_memory, s->memories);
	compare(c, s->serial, "devices", lease->n_devices, s->devices);
	compare(c, s->serial, "vms", lease->n_vms, s->vms);
	compare(c, s->serial, "ioasids that vms count", s->vm_ioasids, s->of_vm);
	compare(c, s->serial, "attachments", lease->n_attachments, s->attachments);
	compare(c, s->serial, "attachments that ioasids count", s->attached, s->attachments);
	compare(c, s->serial, "children that ioasids count", s->children, s->with_parent);
	compare(c, s->serial, "mappings and slots that memories count", s->memory_mappings,
		s->of_memory);
	c->objects += s->mappings + s->attachments + s->devices + s->slots;
}

static void compare_counter(struct check *c, const struct tenant *t, enum quota_resource r,
			    const char *what, uint64_t counted, uint64_t found)
{
	char subject[POLICY_PATH_MAX + 16];

	if (counted == found)
		return;
	snprintf(subject, sizeof(subject), "tenant %s", t->path[0] ? t->path : "(host)");
	complain(c, subject, "%s: %s is %llu, should be %llu", quota_resource_name(r), what,
		 (unsigned long long)counted, (unsigned long long)found);
}

/* need(n) = own(n) + sum over children of max(need(c), reserved(c)); see policy/quota.h. */
static void compare_tenants(struct check *c)
{
	struct broker *broker = c->call->broker;
	uint64_t(*need)[_QUOTA_COUNTED_MAX] = calloc(c->n_tenants, sizeof(*need));

	if (!need) {
		complain(c, "tenants", "not compared: out of memory");
		return;
	}
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		const struct quota_node *q = &t->quota;

		for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++) {
			need[t->check_index][r] += q->own[r];
			if (t->parent)
				need[t->parent->check_index][r] +=
					q->need[r] > q->reserved[r] ? q->need[r] : q->reserved[r];
		}
	}
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		for (unsigned r = 0; r < _QUOTA_COUNTED_MAX; r++) {
			compare_counter(c, t, r, "its own use", t->quota.own[r],
					c->sums[t->check_index][r]);
			compare_counter(c, t, r, "its need", t->quota.need[r],
					need[t->check_index][r]);
		}
	}
	free(need);
}

static void compare_with_registry(struct check *c)
{
	const struct registry_image *image = c->image;
	size_t k = 0;

	if (c->result) {
		complain(c, "registry", "%s",
			 c->result < 0 ? strerror(-c->result) : c->problem.message);
		return;
	}
	if (image->damaged)
		complain(c, "registry", "%llu records are damaged: %s",
			 (unsigned long long)image->damaged, image->damage);
	for (size_t i = 0; i < c->n_leases; i++) {
		const struct lease_sums *s = &c->leases[i];
		const struct registry_lease *r;

		for (; k < image->n_leases && image->leases[k].serial < s->serial; k++)
			complain_of_lease(c, image->leases[k].serial,
					  "in the registry, and not there");
		if (k == image->n_leases || image->leases[k].serial > s->serial) {
			complain_of_lease(c, s->serial, "not in the registry");
			continue;
		}
		r = &image->leases[k++];
		if (r->damage[0])
			complain_of_lease(c, s->serial, "in the registry: %s", r->damage);
		compare(c, s->serial, "ioasids in the registry", r->n_ioasids, s->ioasids);
		compare(c, s->serial, "memories in the registry", r->n_memories, s->memories);
		compare(c, s->serial, "mappings in the registry", r->n_mappings, s->mappings);
		compare(c, s->serial, "attachments in the registry", r->n_attachments,
			s->attachments);
		compare(c, s->serial, "devices in the registry", r->n_devices, s->devices);
		compare(c, s->serial, "vms in the registry", r->n_vms, s->vms);
		compare(c, s->serial, "slots in the registry", r->n_slots, s->slots);
	}
	for (; k < image->n_leases; k++)
		complain_of_lease(c, image->leases[k].serial, "in the registry, and not there");
}

/* ---- the pass ---- */

static void check_end(struct broker_call *call)
{
	struct check *c = call->data;

	registry_image_free(c->image);
	free(c->sums);
	free(c->leases);
}

static bool has_changed(const struct check *c)
{
	return c->call->broker->charge_changes != c->changes;
}

static void check_slice(struct op *op);

static int begin(struct check *c)
{
	Ioasid__V1__CheckResponse *p = (void *)c->call->response;
	struct broker *broker = c->call->broker;
	size_t n = 0;

	registry_image_free(c->image);
	c->image = NULL;
	free(c->sums);
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t))
		t->check_index = n++;
	c->n_tenants = n;
	c->sums = calloc(n, sizeof(*c->sums));
	if (!c->sums)
		return refuse_no_memory(c->call);
	p->n_problems = 0;
	p->omitted = 0;
	c->n_leases = 0;
	c->objects = 0;
	c->lease = TAILQ_FIRST(&broker->leases);
	c->object = 0;
	c->changes = broker->charge_changes;
	add_host(c);
	c->call->op.complete = check_slice;
	op_later(&c->call->op, broker);
	return CALL_PENDING;
}

static void pause_run(struct op *op)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

static void pause_complete(struct op *op)
{
	struct check *c = call_of_op(op)->data;
	int r = begin(c);

	if (r != CALL_PENDING)
		call_end(c->call, r);
}

static void begin_again(struct check *c)
{
	if (++c->tries < TRIES) {
		call_run(c->call, pause_run, pause_complete, true);
		return;
	}
	call_end(c->call, refuse(c->call, OUTCOME_BUSY, "too much changes while it is compared"));
}

static void finish(struct check *c)
{
	Ioasid__V1__CheckResponse *p = (void *)c->call->response;

	p->tenants = c->n_tenants;
	p->leases = c->n_leases;
	p->objects = c->objects;
	p->counters = c->n_tenants * 2 * _QUOTA_COUNTED_MAX;
	call_end(c->call, OUTCOME_OK);
}

static void registry_run(struct op *op)
{
	struct check *c = call_of_op(op)->data;

	c->result =
		registry_load(registry_folder(c->call->broker->registry), &c->image, &c->problem);
}

static void registry_complete(struct op *op)
{
	struct check *c = call_of_op(op)->data;

	if (has_changed(c)) {
		begin_again(c);
		return;
	}
	compare_with_registry(c);
	finish(c);
}

/* A lease that ends is not what its objects say; it is soon gone. */
static bool is_settled(const struct lease *lease)
{
	return lease->state == LEASE_OPEN && !(lease->active && lease->active->intent_open);
}

static bool check_one(struct check *c)
{
	struct lease *lease = c->lease;
	struct object *o;

	if (!c->object && !is_settled(lease))
		return false;
	if (!c->object && !add_lease(c, lease))
		return false;
	if (c->in_mappings) {
		add_mappings(c, lease);
		return true;
	}
	o = lease_any_after(lease, c->object);
	if (o) {
		add_object(c, lease, o);
		c->budget--;
		return true;
	}
	end_lease(c, lease);
	c->lease = TAILQ_NEXT(lease, all);
	c->object = 0;
	return true;
}

static void check_slice(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct check *c = call->data;

	if (call->broker->shutting_down) {
		call_end(call, refuse(call, OUTCOME_SHUTTING_DOWN, "the broker is shutting down"));
		return;
	}
	/* What the cursor points to may be gone. */
	if (has_changed(c)) {
		begin_again(c);
		return;
	}
	for (c->budget = SLICE; c->budget && c->lease; c->budget -= c->budget > 0) {
		if (!check_one(c)) {
			begin_again(c);
			return;
		}
	}
	if (c->lease) {
		op_later(op, call->broker);
		return;
	}
	compare_tenants(c);
	if (!call->broker->registry)
		finish(c);
	else
		call_run(call, registry_run, registry_complete, true);
}

int rpc_check(struct broker_call *call)
{
	Ioasid__V1__CheckResponse *p = call_response(call);
	struct check *c = scratch_calloc(&call->scratch, 1, sizeof(*c));
	int r;

	if (p)
		p->problems = scratch_calloc(&call->scratch, PROBLEMS_MAX, sizeof(*p->problems));
	if (!p || !c || !p->problems)
		return refuse_no_memory(call);
	c->call = call;
	call->data = c;
	r = begin(c);
	if (r == CALL_PENDING)
		call->on_finish = check_end;
	else
		check_end(call);
	return r;
}
