/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start with a registry: what an earlier broker left is found again, before anybody is
 * served.
 *
 * The lease is the unit.  One that is consistent, in the registry, at the keeper and in the
 * kernel, goes on as it was, DMA included; one that is not ends, DMA first, and the log says
 * why.  Limits do not apply to what exists already, and a tenant that has left the policy
 * keeps what it has, as after a reload.
 *
 *	lease: tenant, context -> devices, memory, IOASIDs, mappings, attachments, keys
 *	       -> its intent undone or redone -> strays in its context ended
 *	then: contexts of no lease ended; fds of no memory dropped; devices that somebody still
 *	       has open; the registry written anew; leases whose end had begun end
 *
 * Invariant: until the new registry is written the old one is as it was, and everything done
 * here may be done again by the next start.  Before the broker serves: one thread, blocking.
 */
#include "server/broker/restore.h"

#include "server/broker/attachment.h"
#include "server/broker/compact.h"
#include "server/broker/delegation.h"
#include "server/broker/device.h"
#include "server/broker/device_held.h"
#include "server/broker/event.h"
#include "server/broker/fault.h"
#include "server/broker/fault_point.h"
#include "server/broker/ioasid.h"
#include "server/broker/kept_fd.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"
#include "server/broker/process.h"
#include "server/broker/rpc_resume.h"
#include "server/broker/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

/* A claim takes seconds at most: drivers, resets. */
#define SWEEP_TRIES    300
#define SWEEP_PAUSE_US 100000

int restore_fail(struct restoring *restoring, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(restoring->reason, sizeof(restoring->reason), format, ap);
	va_end(ap);
	return RESTORE_E_LEASE;
}

int restore_shim_error(struct restoring *restoring, int error, const char *what, const char *reason)
{
	/* Without memory nothing else will do better; without the keeper nothing can be told. */
	if (error == -ENOMEM || error == -ECONNREFUSED || error == -ENOENT || error == -EPIPE)
		return error;
	if (error < 0)
		return restore_fail(restoring, "%s: %s", what, strerror(-error));
	return restore_fail(restoring, "%s: %s", what,
			    reason && reason[0]		? reason
			    : error == SHIM_E_GONE	? "it is gone"
			    : error == SHIM_E_NO_DEVICE ? "the host does not have it any more"
							: "the shim refuses");
}

/* ---- what belongs to no lease ---- */

static int restore_tenants(struct broker *broker, const struct registry_image *image)
{
	for (size_t i = 0; i < image->n_tenants; i++) {
		const Ioasid__Registry__Tenant *r = image->tenants[i];
		struct tenant *t = tenant_find(broker, strcmp(r->path, "/") ? r->path : "");

		/* Limits of a tenant that the policy has no more are none. */
		if (!t)
			continue;
		t->draining = r->draining;
		t->closes_leases = r->draining && r->closes_leases;
		for (size_t k = 0; k < r->n_limits; k++) {
			enum quota_resource q;

			if (quota_resource_from_name(r->limits[k]->resource, &q))
				continue;
			quota_set_limit(&t->quota, q, r->limits[k]->amount);
			t->limits_set |= UINT32_C(1) << q;
		}
	}
	return restore_keys(&broker->keys, tenant_find(broker, ""), image->keys, image->n_keys);
}

/* Those of one lease share what was declared for it. */
static int hold_delegation(struct device *d, struct tenant *tenant, uint64_t lease,
			   const Ioasid__Registry__Delegation *r)
{
	struct delegation *found = delegation_find(tenant->broker, lease);
	struct quota_refusal refusal;

	if (!r)
		return 0;
	if (!found)
		return delegation_new(tenant, lease, r->ioasids, r->bytes, &refusal,
				      &d->delegation);
	d->delegation = delegation_ref(found);
	return 0;
}

static int hold(struct broker *broker, struct device *d, const char *path, uint64_t lease,
		const Ioasid__Registry__Delegation *delegation)
{
	struct quota_amount amount = {QUOTA_DEVICES, 1};
	struct quota_refusal refusal;
	struct tenant *t;
	int r;

	if (d->lease || d->held)
		return 0;
	r = tenant_ensure(broker, path, &t);
	if (!r)
		r = charge_take(&d->charge, t, &amount, 1, &refusal);
	if (!r)
		r = hold_delegation(d, t, lease, delegation);
	if (r)
		return r < 0 ? r : -EOVERFLOW;
	d->revoking = true;
	d->not_free = true;
	device_hold(broker, d);
	return 0;
}

/* Devices that were held, and those of leases that have ended now. */
static int restore_held(struct broker *broker, const struct registry_image *image)
{
	int r = 0;

	for (size_t i = 0; i < image->n_held && !r; i++) {
		const Ioasid__Registry__Held *h = image->held[i];
		struct device *d = device_find(broker, h->address);

		if (d)
			r = hold(broker, d, h->tenant, h->delegation ? h->delegation->lease : 0,
				 h->delegation);
	}
	for (size_t i = 0; i < image->n_leases && !r; i++) {
		const struct registry_lease *from = &image->leases[i];

		for (size_t k = 0; k < from->n_devices && !r; k++) {
			struct device *d = device_find(broker, from->devices[k]->address);

			if (d && !d->lease && from->lease &&
			    shim_dev_is_free(broker->shim, d->info->address))
				r = hold(broker, d, from->lease->tenant, from->serial,
					 from->lease->delegation);
		}
	}
	return r;
}

/* ---- leases ---- */

static void copy_socket(char to[static 64], const char *from)
{
	snprintf(to, 64, "%s", from);
}

static int claimant_new(const Ioasid__Registry__Holder *h, struct lease_claimant **ret_claimant)
{
	struct lease_claimant *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	copy_socket(c->socket, h->socket);
	c->uid = h->uid;
	c->gid = h->gid;
	c->process.pid = (pid_t)h->pid;
	c->process.start_time = h->start_time;
	if (h->token.len == RESUME_TOKEN_SIZE)
		memcpy(c->token, h->token.data, RESUME_TOKEN_SIZE);
	*ret_claimant = c;
	return 0;
}

/* How long it stays without a holder, and who may come for it. */
static int restore_waiting(struct restoring *restoring)
{
	const Ioasid__Registry__Lease *r = restoring->from->lease;
	struct lease *lease = restoring->lease;
	struct broker *broker = lease->broker;
	uint64_t wait = broker->grace_us, linger = r->linger_seconds * UINT64_C(1000000);
	struct lease_claimant *claimant;
	int e;

	if (r->holder) {
		e = claimant_new(r->holder, &claimant);
		if (e)
			return e;
		/* A named one survives its holder's absence as it always does. */
		if (lease->name && linger > wait)
			wait = linger;
		e = lease_await(lease, claimant, broker_now(broker) + wait);
		if (e == -ESRCH)
			return restore_fail(restoring, "its process has ended");
		return e;
	}
	if (!lease->name)
		return restore_fail(restoring, "a connection lease that nobody held");
	if (!lease->keep) {
		lease->linger_until_us = r->linger_until_us;
		broker_expect(broker, lease->linger_until_us);
	}
	return 0;
}

static int restore_watch(struct restoring *restoring)
{
	const Ioasid__Registry__Watched *w = restoring->from->lease->watched;
	struct lease *lease = restoring->lease;
	int r;

	if (!w)
		return 0;
	lease->watched = (struct process_id){.pid = (pid_t)w->pid, .start_time = w->start_time};
	r = process_open(&lease->watched, &lease->watch.fd);
	if (r == -ESRCH)
		return restore_fail(restoring, "the process that it watches has ended");
	if (!r)
		r = lease_watch_process(lease);
	return r;
}

static int restore_head(struct restoring *restoring)
{
	const struct registry_lease *from = restoring->from;
	const Ioasid__Registry__Lease *r = from->lease;
	struct broker *broker = restoring->broker;
	struct quota_refusal refusal;
	struct tenant *tenant;
	struct lease *lease;
	int e;

	e = tenant_ensure(broker, r->tenant, &tenant);
	if (!e)
		/* The name of one whose end had begun may be another's by now. */
		e = lease_make(broker, tenant, r->name[0] && !r->closing ? r->name : NULL,
			       from->serial, &refusal, &lease);
	if (e)
		return e < 0 ? e : -EOVERFLOW;
	restoring->lease = lease;
	lease->next_id = from->next_id;
	lease->was_closing = r->closing;
	lease->linger_seconds = r->linger_seconds;
	lease->keep = r->keep;
	lease->handover = r->handover;
	if (r->limits)
		lease->limits =
			(struct lease_limits){r->limits->ioasids, r->limits->registered_bytes};
	if (r->secret.len == LEASE_SECRET_SIZE)
		memcpy(lease->secret, r->secret.data, LEASE_SECRET_SIZE);
	lease->opener.uid = r->opener_uid;
	copy_socket(lease->opener_socket, r->opener_socket);
	lease->opener.socket = lease->opener_socket;
	if (r->open_key[0]) {
		lease->open_key = strdup(r->open_key);
		lease->open_hash = r->open_hash;
		if (!lease->open_key)
			return -ENOMEM;
	}
	return 0;
}

/* Its process may have ended: then there is nobody to end with it. */
static int restore_delegation(struct restoring *restoring)
{
	const Ioasid__Registry__Delegation *r = restoring->from->lease->delegation;
	const Ioasid__Registry__Watched *w = restoring->from->lease->watched;
	struct lease *lease = restoring->lease;
	struct quota_refusal refusal;
	int e;

	if (!r)
		return 0;
	e = delegation_new(lease->tenant, lease->serial, r->ioasids, r->bytes, &refusal,
			   &lease->delegation);
	if (e)
		return e < 0 ? e : -EOVERFLOW;
	lease->delegation->given = r->given;
	if (!w)
		return 0;
	lease->watched = (struct process_id){.pid = (pid_t)w->pid, .start_time = w->start_time};
	e = process_open(&lease->watched, &lease->delegation->holder);
	return e == -ESRCH ? 0 : e;
}

static int restore_context(struct restoring *restoring)
{
	const Ioasid__Registry__Lease *r = restoring->from->lease;
	struct lease *lease = restoring->lease;
	struct shim *shim = lease->broker->shim;
	struct shim_saved saved = {.n = r->context.len};
	int e;

	if (!r->context.len || !shim_restores(shim))
		return 0;
	if (r->context.len > SHIM_SAVED_MAX)
		return restore_fail(restoring, "context: not what this shim wrote");
	memcpy(saved.bytes, r->context.data, saved.n);
	e = shim_ctx_restore(shim, r->tenant, &saved, &lease->ctx);
	if (e)
		return restore_shim_error(restoring, e, "context", NULL);
	lease->saved = saved;
	lease->ctx_saved = true;
	return 0;
}

/*
 * What was undone may have made tables anew, of the kernel's and of what is told to it: the
 * registry is written next, and the next broker goes by that.
 */
static void save_again(struct lease *lease)
{
	struct attachment *a;
	uint64_t after = 0;
	struct object *o;

	while ((o = lease_object_after(lease, OBJECT_IOASID, after))) {
		struct ioasid *i = CONTAINER_OF(o, struct ioasid, object);

		if (i->pt)
			shim_pt_save(i->pt, &i->saved);
		after = o->id.value;
	}
	for (a = attachment_first(lease); a; a = attachment_next(lease, a)) {
		/* Also one that is freed, and goes with its last attachment. */
		shim_pt_save(a->ioasid->pt, &a->ioasid->saved);
		shim_attach_save(a->device->shim, a->physical, &a->saved);
	}
}

static int restore_strays(struct restoring *restoring)
{
	struct lease *lease = restoring->lease;
	size_t strays = 0;
	int r;

	if (!lease->ctx || !shim_restores(lease->broker->shim))
		return 0;
	r = shim_ctx_restored(lease->ctx, &strays);
	lease->broker->restart.strays += strays;
	if (!r) {
		save_again(lease);
		faults_watch_reports(lease);
	}
	return r ? restore_shim_error(restoring, r, "what was begun in its context", NULL) : 0;
}

/* Freed, and what referred to them is gone: the crash came before their end. */
static void restore_freed(struct lease *lease)
{
	struct ioasid *i;
	unsigned budget;

	do {
		LIST_FOREACH(i, &lease->retiring_ioasids, retiring)
		{
			shim_pt_destroy(i->pt);
			i->pt = NULL;
		}
		vms_end_tables(lease);
		budget = OP_SLICE;
		ioasids_reap_retiring(lease, &budget);
	} while (!LIST_EMPTY(&lease->retiring_ioasids) || !LIST_EMPTY(&lease->retiring_vms));
}

static int restore_contents(struct restoring *restoring)
{
	struct lease *lease = restoring->lease;
	int r;

	r = restore_intent_find(restoring);
	if (!r)
		r = restore_context(restoring);
	if (!r)
		r = restore_devices(restoring);
	if (!r)
		r = restore_memories(restoring);
	if (!r)
		r = restore_vms(restoring);
	if (!r)
		r = restore_ioasids(restoring);
	if (!r)
		r = restore_mappings(restoring);
	if (!r)
		r = restore_attachments(restoring);
	if (!r)
		r = restore_keys(&lease->keys, lease->tenant, restoring->from->keys,
				 restoring->from->n_keys);
	if (!r)
		r = restore_intent_settle(restoring);
	if (!r)
		restore_freed(lease);
	if (!r)
		r = restore_strays(restoring);
	return r;
}

/* One that had begun to end needs nobody to come for it. */
static int restore_lease(struct restoring *restoring)
{
	int r;

	if (restoring->from->damage[0])
		return restore_fail(restoring, "%s", restoring->from->damage);
	r = restore_head(restoring);
	if (!r)
		r = restore_delegation(restoring);
	if (!r)
		r = restore_contents(restoring);
	if (!r && !restoring->lease->was_closing)
		r = restore_watch(restoring);
	if (!r && !restoring->lease->was_closing)
		r = restore_waiting(restoring);
	return r;
}

static void report_ended(struct restoring *restoring)
{
	const struct registry_lease *from = restoring->from;
	const Ioasid__Registry__Lease *r = from->lease;
	struct broker *broker = restoring->broker;

	broker_log(broker, LOG_WARNING, "lease %llu%s%s of tenant %s is ended: %s",
		   (unsigned long long)from->serial, r && r->name[0] ? " " : "", r ? r->name : "",
		   r ? r->tenant : "(unknown)", restoring->reason);
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_LEASE_REVOKED,
		   r ? tenant_find(broker, r->tenant) : NULL, restoring->lease, 0, NULL,
		   "serial %llu ended at the start: %s", (unsigned long long)from->serial,
		   restoring->reason);
}

/* Its context, if it has one, is known to no lease then, and is swept: DMA first. */
static void give_up(struct restoring *restoring)
{
	const struct registry_lease *from = restoring->from;
	const Ioasid__Registry__Lease *r = from->lease;
	struct broker *broker = restoring->broker;
	struct lease *lease = restoring->lease;

	if (r && r->closing) {
		/* It was on its way there. */
		broker_log(broker, LOG_INFO, "lease %llu of tenant %s: its end is finished",
			   (unsigned long long)from->serial, r->tenant);
	} else {
		broker->restart.leases_ended++;
		report_ended(restoring);
	}
	if (!lease)
		return;
	delegation_end_holder(lease->delegation, lease->tenant->path);
	shim_ctx_leave(lease->ctx);
	lease_discard(lease);
}

static int restore_leases(struct broker *broker, const struct registry_image *image)
{
	for (size_t i = 0; i < image->n_leases; i++) {
		struct restoring restoring = {.broker = broker, .from = &image->leases[i]};
		int r = restore_closer_key(&restoring);

		if (!r)
			r = restore_lease(&restoring);
		if (r < 0)
			return r;
		if (r)
			give_up(&restoring);
		FAULT_POINT("restore", "lease");
		if (r)
			continue;
		broker->restart.leases_restored++;
		broker->restart.mappings += restoring.n_mappings;
	}
	return 0;
}

/* ---- what no lease knows ---- */

static int sweep(struct broker *broker)
{
	struct shim_saved *known = calloc(broker->n_leases + 1, sizeof(*known));
	size_t n = 0, ended = 0;
	struct lease *lease;
	int r;

	if (!known)
		return -ENOMEM;
	TAILQ_FOREACH(lease, &broker->leases, all)
	if (lease->ctx && shim_restores(broker->shim))
		known[n++] = lease->saved;
	/* The keeper may still be at work for a broker that is gone. */
	for (unsigned i = 0; i < SWEEP_TRIES; i++) {
		r = shim_sweep(broker->shim, known, n, &ended);
		broker->restart.strays += ended;
		if (r != -EBUSY)
			break;
		usleep(SWEEP_PAUSE_US);
	}
	free(known);
	if (r)
		return r < 0 ? r : -EPROTO;
	if (ended)
		broker_log(broker, LOG_NOTICE,
			   "ended %zu contexts of an earlier broker that no lease has", ended);
	return 0;
}

static int drop_fds(struct broker *broker)
{
	uint64_t dropped;
	int r = kept_fds_reconcile(broker, &dropped);

	if (r)
		return r;
	broker->restart.strays += dropped;
	if (dropped)
		broker_log(broker, LOG_NOTICE, "the keeper held %llu fds that no lease has",
			   (unsigned long long)dropped);
	return 0;
}

/* By a DrainTenant that was to end its leases, too: there are no new ones since. */
static bool is_drained(const struct tenant *tenant)
{
	while (tenant && !tenant->closes_leases)
		tenant = tenant->parent;
	return tenant != NULL;
}

static void finish_closing(struct broker *broker)
{
	struct lease *lease, *next;

	for (lease = TAILQ_FIRST(&broker->leases); lease; lease = next) {
		next = TAILQ_NEXT(lease, all);
		if (lease->was_closing)
			lease_close(lease, "its end had begun before the restart");
		else if (is_drained(lease->tenant))
			lease_close(lease, "its tenant is drained");
	}
}

static void count(struct broker *broker)
{
	struct restart_report *r = &broker->restart;
	struct lease *lease;

	TAILQ_FOREACH(lease, &broker->leases, all)
	{
		r->memories += lease->n_memory;
		r->ioasids += lease->n_ioasids;
		r->devices += lease->n_devices;
		r->attachments += lease->n_attachments;
	}
}

static void report(struct broker *broker)
{
	const struct restart_report *r = &broker->restart;

	broker_log(broker, r->leases_ended || r->damaged ? LOG_WARNING : LOG_NOTICE,
		   "restored in %llu ms: %llu leases (%llu ended), %llu memories, %llu ioasids, "
		   "%llu mappings, %llu attachments, %llu devices; requests undone %llu, redone "
		   "%llu; strays %llu; damaged records %llu",
		   (unsigned long long)r->duration_us / 1000,
		   (unsigned long long)r->leases_restored, (unsigned long long)r->leases_ended,
		   (unsigned long long)r->memories, (unsigned long long)r->ioasids,
		   (unsigned long long)r->mappings, (unsigned long long)r->attachments,
		   (unsigned long long)r->devices, (unsigned long long)r->undone,
		   (unsigned long long)r->redone, (unsigned long long)r->strays,
		   (unsigned long long)r->damaged);
}

static int restore_all(struct broker *broker, const struct registry_image *image)
{
	int r;

	broker->restart.found = true;
	broker->restart.damaged = image->damaged;
	if (image->damaged)
		broker_log(broker, LOG_ERR, "the registry is damaged: %llu records, first: %s",
			   (unsigned long long)image->damaged, image->damage);
	broker->last_serial = image->last_serial;
	event_log_continue(broker->events, image->event_sequence);
	broker->restoring = true;
	r = restore_tenants(broker, image);
	if (!r)
		r = restore_leases(broker, image);
	if (!r)
		r = sweep(broker);
	FAULT_POINT("restore", "sweep");
	if (!r)
		r = restore_held(broker, image);
	broker->restoring = false;
	return r;
}

/* The start fails, and the next one finds everything as this one did. */
static void abandon(struct broker *broker)
{
	struct lease *lease;

	while ((lease = TAILQ_FIRST(&broker->leases))) {
		shim_ctx_leave(lease->ctx);
		lease_discard(lease);
	}
	broker->shutting_down = true;
	devices_held_forget(broker);
	kept_fds_stop(broker->kept_fds);
}

static bool is_of_this_boot(const struct registry_image *image, const struct registry_boot_id *boot)
{
	return !memcmp(&image->boot, boot, sizeof(*boot));
}

static void report_other_boot(struct broker *broker, const struct registry_image *image)
{
	broker->restart.found = true;
	broker->restart.other_boot_leases = image->n_leases;
	broker_log(broker, LOG_NOTICE,
		   "the registry is of another boot of this machine: %zu leases, gone with it",
		   image->n_leases);
}

int broker_restore(struct broker *broker, struct registry *registry,
		   const struct registry_image *image, const struct registry_boot_id *boot,
		   uint64_t grace_us, const char *aside)
{
	uint64_t started = broker_now(broker);
	int r;

	broker->boot = *boot;
	broker->grace_us = grace_us;
	if (image && !is_of_this_boot(image, boot)) {
		report_other_boot(broker, image);
		/* Numbers that somebody may have written down are not used again. */
		broker->last_serial = image->last_serial;
		event_log_continue(broker->events, image->event_sequence);
		image = NULL;
		aside = aside ?: "other-boot";
	}
	/* Nobody is served before all is well. */
	r = image ? restore_all(broker, image) : sweep(broker);
	if (!r)
		r = drop_fds(broker);
	FAULT_POINT("restore", "fds");
	if (!r) {
		broker->events_written = event_log_last(broker->events) + 1024;
		r = compact_first(broker, registry, boot, aside);
	}
	if (r) {
		abandon(broker);
		return r;
	}
	count(broker);
	broker->restart.duration_us = broker_now(broker) - started;
	if (image)
		report(broker);
	finish_closing(broker);
	return 0;
}
