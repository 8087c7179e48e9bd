/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: what ties objects to a client's life, and the protection domain.
 *
 * Owns struct lease, its table of ids and its end.  Invariants:
 *  - at most one call with an op in flight a lease (lease->active); others wait in order;
 *  - an id is looked up in the lease's own table and nowhere else;
 *  - CLOSING is final: nothing is added; when no call is active, the shim context goes
 *    (devices stop first), then the records, in slices; only then charges come back and
 *    devices are free for others.
 * State thread only.
 */
#include "server/broker/lease.h"

#include "server/broker/fault_point.h"
#include "server/broker/attachment.h"
#include "server/broker/call.h"
#include "server/broker/delegation.h"
#include "server/broker/device.h"
#include "server/broker/dma_service.h"
#include "server/broker/compact.h"
#include "server/broker/event.h"
#include "server/broker/fault.h"
#include "server/broker/ioasid.h"
#include "server/broker/journal.h"
#include "server/broker/key_table.h"
#include "server/broker/memory.h"
#include "server/broker/rpc_resume.h"
#include "server/broker/session.h"
#include "server/broker/ticket.h"
#include "server/broker/vm.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

static int object_compare(const struct object *a, const struct object *b)
{
	return a->id.value < b->id.value ? -1 : a->id.value > b->id.value;
}

static int lease_name_compare(const struct lease *a, const struct lease *b)
{
	return strcmp(a->name, b->name);
}

TREE_GENERATE(object_tree, object, node, object_compare)
TREE_GENERATE(lease_name_tree, lease, by_name, lease_name_compare)

void lease_unwatch(struct lease *lease, struct broker_watch *watch)
{
	if (watch->fd < 0)
		return;
	lease->broker->host_ops->unwatch(lease->broker->host, watch);
	close(watch->fd);
	watch->fd = -1;
}

bool lease_name_is_valid(const char *name)
{
	size_t n =
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n > 0 && n <= LEASE_NAME_MAX && !name[n];
}

static void lease_charge_back(struct lease *lease)
{
	charge_release(&lease->charge);
	free(lease->name);
	free(lease);
}

int lease_make(struct broker *broker, struct tenant *tenant, const char *name, uint64_t serial,
	       struct quota_refusal *ret_refusal, struct lease **ret_lease)
{
	struct quota_amount amounts[] = {
		{QUOTA_LEASES, 1},
		{QUOTA_BROKER_BYTES, sizeof(struct lease)},
	};
	struct lease *lease;
	int r;

	lease = calloc(1, sizeof(*lease));
	if (!lease)
		return -ENOMEM;
	if (name) {
		lease->name = strdup(name);
		if (!lease->name) {
			free(lease);
			return -ENOMEM;
		}
	}
	r = charge_take(&lease->charge, tenant, amounts, 2, ret_refusal);
	if (r) {
		free(lease->name);
		free(lease);
		return r;
	}
	lease->broker = broker;
	lease->tenant = tenant;
	r = journal_lease_room(lease);
	if (r) {
		lease_charge_back(lease);
		return r;
	}
	lease->serial = serial;
	lease->linger_until_us = UINT64_MAX;
	lease->limits = (struct lease_limits){UINT64_MAX, UINT64_MAX};
	lease->watch.fd = -1;
	lease->awaited_watch.fd = -1;
	lease->next_id = 1;
	RB_INIT(&lease->objects);
	RB_INIT(&lease->unlisted);
	LIST_INIT(&lease->retiring_ioasids);
	LIST_INIT(&lease->retiring_vms);
	LIST_INIT(&lease->services);
	LIST_INIT(&lease->unserved);
	TAILQ_INIT(&lease->devices);
	RB_INIT(&lease->attachments);
	RB_INIT(&lease->pasids);
	LIST_INIT(&lease->tickets);
	STAILQ_INIT(&lease->waiting);
	LIST_INIT(&lease->parked);
	faults_init(lease);
	tenant->n_leases++;
	broker->n_leases++;
	TAILQ_INSERT_TAIL(&broker->leases, lease, all);
	if (name)
		RB_INSERT(lease_name_tree, &tenant->leases, lease);
	*ret_lease = lease;
	return 0;
}

int lease_new(struct broker_session *session, struct tenant *tenant, const char *name,
	      struct quota_refusal *ret_refusal, struct lease **ret_lease)
{
	struct broker *broker = session->broker;
	struct lease *lease;
	int r;

	r = lease_make(broker, tenant, name, broker->last_serial + 1, ret_refusal, &lease);
	if (r)
		return r;
	broker->last_serial++;
	lease_set_holder(lease, session);
	/* A named one is written when it has its secret. */
	if (!name)
		journal_lease(lease);
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LEASE_OPENED, tenant, lease, 0, NULL,
		   "serial %llu", (unsigned long long)lease->serial);
	*ret_lease = lease;
	return 0;
}

static void lease_free(struct lease *lease)
{
	struct broker *broker = lease->broker;
	struct tenant *tenant = lease->tenant;
	struct broker_call *closer = lease->closer;

	assert(RB_EMPTY(&lease->objects) && RB_EMPTY(&lease->attachments));
	assert(RB_EMPTY(&lease->pasids));
	assert(!lease->n_memory && !lease->n_ioasids && !lease->n_vms && !lease->n_devices);
	assert(!lease->registered_bytes);
	assert(!lease->n_tickets && !lease->holder);
	compact_skip(broker, lease);
	/* Its answer is written while the lease's record still vouches for it. */
	if (closer)
		journal_result(closer, NULL);
	journal_drop_lease(lease);
	if (closer)
		FAULT_POINT(closer->method->path, "result");
	key_table_free(lease->keys);
	faults_deinit(lease);
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LEASE_CLOSED, tenant, lease, 0, NULL,
		   "serial %llu", (unsigned long long)lease->serial);
	TAILQ_REMOVE(&broker->leases, lease, all);
	broker->n_leases--;
	/* While it counts as a lease of the tenant, giving charges back cannot end the tenant. */
	delegation_unref(lease->delegation);
	charge_release(&lease->charge);
	tenant->n_leases--;
	tenant_collect(tenant);
	free(lease->open_key);
	free(lease->name);
	explicit_bzero(lease->secret, sizeof(lease->secret));
	free(lease);
	if (closer)
		call_end(closer, OUTCOME_OK);
}

/* ---- holder ---- */

void lease_set_holder(struct lease *lease, struct broker_session *session)
{
	assert(!lease->holder);
	lease_await_no_more(lease);
	lease->holder = session;
	lease->linger_until_us = UINT64_MAX;
	LIST_INSERT_HEAD(&session->leases, lease, held);
	session_find_process(session);
	if (lease->recorded) {
		FAULT_POINT_HERE("before_result");
		journal_lease(lease);
		FAULT_POINT_HERE("result");
	}
}

static void lease_clear_holder(struct lease *lease)
{
	if (!lease->holder)
		return;
	LIST_REMOVE(lease, held);
	lease->holder = NULL;
}

void lease_drop_holder(struct lease *lease)
{
	if (lease->broker->ending && lease->broker->registry) {
		lease_leave(lease, "the broker is shutting down");
		return;
	}
	lease_clear_holder(lease);
	tickets_drop(lease);
	if (!lease->name || (!lease->linger_seconds && !lease->keep)) {
		lease_close(lease, "its connection ended");
		return;
	}
	if (!lease->keep) {
		lease->linger_until_us =
			broker_now(lease->broker) + lease->linger_seconds * UINT64_C(1000000);
		broker_expect(lease->broker, lease->linger_until_us);
	}
	journal_lease(lease);
}

void lease_take_from_holder(struct lease *lease)
{
	struct broker_session *holder = lease->holder;
	struct broker_call *call, *next;

	if (!holder)
		return;
	for (call = LIST_FIRST(&holder->calls); call; call = next) {
		next = LIST_NEXT(call, of_session);
		if (call->lease == lease)
			broker_call_cancel(call);
	}
	lease_clear_holder(lease);
	tickets_drop(lease);
}

/* Its holder did not come back after a restart. */
static void lease_expect_no_more(struct lease *lease)
{
	lease_await_no_more(lease);
	lease->linger_until_us = UINT64_MAX;
	journal_lease(lease);
}

void lease_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us)
{
	struct lease *lease, *next;

	for (lease = TAILQ_FIRST(&broker->leases); lease; lease = next) {
		next = TAILQ_NEXT(lease, all);
		if (lease->state != LEASE_OPEN || lease->linger_until_us == UINT64_MAX)
			continue;
		if (lease->linger_until_us <= now_us && lease->keep)
			lease_expect_no_more(lease);
		else if (lease->linger_until_us <= now_us)
			lease_close(lease, "nobody adopted it in time");
		else if (lease->linger_until_us < *next_us)
			*next_us = lease->linger_until_us;
	}
}

struct lease *lease_find_held(struct broker_session *session, const struct tenant *tenant,
			      const char *name)
{
	struct lease *lease;

	LIST_FOREACH(lease, &session->leases, held)
	if (lease->tenant == tenant && !strcmp(lease->name ?: "", name))
		return lease;
	return NULL;
}

struct lease *lease_find_named(struct tenant *tenant, const char *name)
{
	struct lease find = {.name = (char *)name};

	return RB_FIND(lease_name_tree, &tenant->leases, &find);
}

int lease_context(struct lease *lease, char *ret_reason, struct shim_ctx **ret_ctx)
{
	const struct delegation *d = lease->delegation;
	struct shim *shim = lease->broker->shim;
	const char *path = lease->tenant->path;
	int r = 0;

	if (!lease->ctx && d)
		r = shim_ctx_new_delegated(shim, path, d->holder, lease->opener.uid, d->bytes,
					   ret_reason, &lease->ctx);
	else if (!lease->ctx)
		r = shim_ctx_new(shim, path, ret_reason, &lease->ctx);
	if (r)
		return r;
	*ret_ctx = lease->ctx;
	return 0;
}

int lease_limit_check(struct broker_call *call, enum quota_resource resource, uint64_t requested)
{
	const struct lease *lease = call->lease;
	bool ioasids = resource == QUOTA_IOASIDS;
	uint64_t limit = ioasids ? lease->limits.ioasids : lease->limits.registered_bytes;
	uint64_t used = ioasids ? lease->n_ioasids : lease->registered_bytes;

	if (limit == UINT64_MAX || (used <= limit && requested <= limit - used))
		return OUTCOME_OK;
	return refuse_lease_limit(call, resource, limit, used, requested);
}

/* ---- objects ---- */

struct object *lease_object(struct lease *lease, enum object_type type, uint64_t id)
{
	struct object find = {.id.value = id}, *o;

	if (!lease)
		return NULL;
	o = RB_FIND(object_tree, &lease->objects, &find);
	return o && o->type == type ? o : NULL;
}

struct object *lease_object_after(struct lease *lease, enum object_type type, uint64_t after)
{
	struct object find = {.id.value = after + 1}, *o;

	if (!lease || after == UINT64_MAX)
		return NULL;
	o = RB_NFIND(object_tree, &lease->objects, &find);
	while (o && o->type != type)
		o = RB_NEXT(object_tree, &lease->objects, o);
	return o;
}

void lease_publish(struct lease *lease, struct object *object)
{
	object->lease = lease;
	object->id.value = lease->next_id++;
	object->listed = true;
	RB_INSERT(object_tree, &lease->objects, object);
}

void lease_unpublish(struct object *object)
{
	assert(object->listed);
	RB_REMOVE(object_tree, &object->lease->objects, object);
	RB_INSERT(object_tree, &object->lease->unlisted, object);
	object->listed = false;
}

void lease_forget(struct object *object)
{
	assert(!object->listed);
	RB_REMOVE(object_tree, &object->lease->unlisted, object);
}

static struct object *tree_after(struct object_tree *tree, uint64_t after)
{
	struct object find = {.id.value = after + 1};

	return RB_NFIND(object_tree, tree, &find);
}

struct object *lease_any_after(struct lease *lease, uint64_t after)
{
	struct object *listed = tree_after(&lease->objects, after);
	struct object *unlisted = tree_after(&lease->unlisted, after);

	if (!listed || !unlisted)
		return listed ?: unlisted;
	return listed->id.value < unlisted->id.value ? listed : unlisted;
}

/* ---- end ---- */

/*
 * One slice: up to OP_SLICE records.  Order: attachments, IOASIDs with their mappings
 * (children first: the last reference to a parent goes with its last child), memory,
 * devices.  The shim objects are gone.
 */
static bool lease_reap_slice(struct lease *lease)
{
	unsigned budget = OP_SLICE;
	struct object *o;

	while (budget && !RB_EMPTY(&lease->attachments)) {
		attachment_reap(attachment_first(lease));
		budget--;
	}
	while (budget && (o = RB_MAX(object_tree, &lease->objects))) {
		if (o->type == OBJECT_IOASID)
			ioasid_retire(CONTAINER_OF(o, struct ioasid, object));
		else if (o->type == OBJECT_VM)
			vm_retire(CONTAINER_OF(o, struct vm, object));
		else
			memory_retire(CONTAINER_OF(o, struct memory, object));
		budget--;
	}
	ioasids_reap_retiring(lease, &budget);
	while (budget && !TAILQ_EMPTY(&lease->devices)) {
		device_reap(TAILQ_FIRST(&lease->devices));
		budget--;
	}
	return budget > 0;
}

static void lease_reap(struct op *op)
{
	struct lease *lease = CONTAINER_OF(op, struct lease, close_op);
	bool done = lease_reap_slice(lease);

	FAULT_POINT("lease", "lease_reap");
	if (done)
		lease_free(lease);
	else
		op_later(op, lease->broker);
}

static void lease_end_context(struct op *op)
{
	struct lease *lease = CONTAINER_OF(op, struct lease, close_op);
	struct shim *shim = lease->broker->shim;
	struct device *d;

	if (lease->leaving) {
		shim_ctx_leave(lease->ctx);
		return;
	}
	delegation_end_holder(lease->delegation, lease->tenant->path);
	shim_ctx_free(lease->ctx);
	TAILQ_FOREACH(d, &lease->devices, link)
	d->not_free = shim_dev_is_free(shim, d->info->address) != 0;
}

static void lease_context_ended(struct op *op)
{
	struct lease *lease = CONTAINER_OF(op, struct lease, close_op);

	FAULT_POINT("lease", "lease_context");
	if (lease->delegation && lease->delegation->problem[0])
		broker_log(lease->broker, LOG_WARNING,
			   "lease %llu %s of tenant %s: process %d was not ended: %s; what it has "
			   "open stays charged",
			   (unsigned long long)lease->serial, lease->name, lease->tenant->path,
			   lease->watched.pid, lease->delegation->problem);
	lease->ctx = NULL;
	lease->state = LEASE_REAPING;
	op->complete = lease_reap;
	lease_reap(op);
}

/* The lease is idle and CLOSING. */
static void lease_start_end(struct lease *lease)
{
	lease->close_op.run = lease_end_context;
	lease->close_op.complete = lease_context_ended;
	lease->state = LEASE_REAPING;
	FAULT_POINT_START(&lease->close_op, lease->closer ? lease->closer->method->path : "lease");
	op_start(&lease->close_op, lease->broker, lease->tenant, lease->ctx != NULL);
}

static void watched_process_ended(struct broker_watch *watch)
{
	struct lease *lease = CONTAINER_OF(watch, struct lease, watch);

	close(watch->fd);
	watch->fd = -1;
	lease_close(lease, "the process that it watches has ended");
}

int lease_watch_process(struct lease *lease)
{
	lease->watch.ready = watched_process_ended;
	return lease->broker->host_ops->watch(lease->broker->host, &lease->watch);
}

static void lease_end(struct lease *lease, const char *why)
{
	lease->state = LEASE_CLOSING;
	if (!lease->leaving && lease->recorded) {
		FAULT_POINT_HERE("reserve");
		journal_lease(lease);
		FAULT_POINT_HERE("intent");
	}
	devices_mark_revoking(lease);
	lease_clear_holder(lease);
	tickets_drop(lease);
	lease_unwatch(lease, &lease->watch);
	lease_await_no_more(lease);
	if (lease->name)
		RB_REMOVE(lease_name_tree, &lease->tenant->leases, lease);
	faults_end(lease);
	lease_cancel_queue(lease, OUTCOME_CANCELLED, why);
	dma_services_end(lease);
	if (lease->active && lease->active->shim_cancel)
		lease->active->shim_cancel->requested = true;
	if (!lease->active && !lease->running_queue)
		lease_start_end(lease);
}

void lease_close(struct lease *lease, const char *why)
{
	if (lease->state == LEASE_OPEN)
		lease_end(lease, why);
}

void lease_leave(struct lease *lease, const char *why)
{
	if (lease->state != LEASE_OPEN)
		return;
	lease->leaving = true;
	lease_end(lease, why);
}

void lease_discard(struct lease *lease)
{
	lease->state = LEASE_REAPING;
	lease->leaving = true;
	lease->ctx = NULL;
	lease_await_no_more(lease);
	lease_unwatch(lease, &lease->watch);
	if (lease->name)
		RB_REMOVE(lease_name_tree, &lease->tenant->leases, lease);
	while (!lease_reap_slice(lease))
		;
	lease_free(lease);
}

/* ---- calls, one at a time ---- */

void lease_cancel_queue(struct lease *lease, int code, const char *message)
{
	struct broker_call *call;

	while ((call = LIST_FIRST(&lease->parked)))
		call_end(call, refuse(call, code, "the lease closed: %s", message));
	while ((call = STAILQ_FIRST(&lease->waiting))) {
		STAILQ_REMOVE_HEAD(&lease->waiting, waiting);
		call->queued = false;
		call_end(call, refuse(call, code, "the lease closed: %s", message));
	}
}

static bool lease_is_empty(const struct lease *lease)
{
	return LIST_EMPTY(&lease->parked) && LIST_EMPTY(&lease->services) && !lease->n_memory &&
	       !lease->n_ioasids && !lease->n_vms && !lease->n_devices && !lease->n_tickets &&
	       (!lease->keys || key_table_is_empty(lease->keys));
}

void lease_run_queue(struct lease *lease)
{
	struct broker_call *call;

	/* An inline call that ends comes back here: the loop below goes on instead. */
	if (lease->running_queue || lease->active)
		return;
	lease->running_queue = true;
	while (!lease->active && lease->state == LEASE_OPEN &&
	       (call = STAILQ_FIRST(&lease->waiting))) {
		STAILQ_REMOVE_HEAD(&lease->waiting, waiting);
		call->queued = false;
		lease->active = call;
		call_execute(call);
	}
	lease->running_queue = false;
	if (lease->reports_due && !lease->active && lease->state == LEASE_OPEN)
		faults_read_reports(lease);
	if (lease->made_in_vain && !lease->active) {
		lease->made_in_vain = false;
		if (lease->state == LEASE_OPEN && lease_is_empty(lease)) {
			lease_close(lease, "nothing was made in it");
			return;
		}
	}
	if (lease->state == LEASE_CLOSING && !lease->active)
		lease_start_end(lease);
}
