/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page requests: devices that wait, and who answers them.
 *
 * Owns struct fault, from a device's page request to its answer: SUCCESS or INVALID by the
 * tenant, INVALID by the broker when the time is over, the IOASID is freed, the device is
 * detached, the tenant has no fault slot left, or nobody has ever watched the lease's faults.  So a
 * device never waits without bound, and what waits is charged to its tenant.  Where the request
 * came from:
 *  - a simulated device: its DeviceDma call is parked, and goes on when the answer comes;
 *  - a kernel: by the context's report fd.  Reading and answering are calls on the context, so
 *    they are made when no op of the lease is in flight; what is due waits for that
 *    (lease->reports_due).
 *
 * One answer is for one page request group of one device: others that wait for the same page
 * have requests of their own.  All waits last equally long, so broker->faults is in the order of
 * deadlines.  State thread.
 */
#include "server/broker/fault.h"

#include "server/broker/attachment.h"
#include "server/broker/event.h"
#include "server/broker/fault_log.h"
#include "server/broker/ioasid.h"
#include "server/broker/lease.h"
#include "server/broker/pasid.h"

#include "vocab.h"

#include <errno.h>
#include <stdlib.h>

/* PCIe: a page request group index has 9 bits. */
#define GROUP_MASK 0x1ff
/* Reports taken at once; the fd stays readable. */
#define REPORTS 64

struct fault {
	TAILQ_ENTRY(fault) of_lease;
	TAILQ_ENTRY(fault) by_deadline;
	struct lease *lease;
	struct fault_where where;
	uint64_t cookie;
	uint64_t deadline_us;
	struct broker_call *call; /* the simulated device's; NULL: a kernel's */
	fault_answered_fn answered;
	uint64_t shim_cookie;
	bool due; /* a kernel's: to be answered INVALID when the lease is idle */
	struct charge charge;
};

void faults_init(struct lease *lease)
{
	TAILQ_INIT(&lease->faults);
	lease->report_watch.fd = -1;
}

static void fault_free(struct fault *f)
{
	TAILQ_REMOVE(&f->lease->faults, f, of_lease);
	TAILQ_REMOVE(&f->lease->broker->faults, f, by_deadline);
	charge_release(&f->charge);
	free(f);
}

void fault_forget(struct fault *fault)
{
	if (fault)
		fault_free(fault);
}

void faults_end(struct lease *lease)
{
	if (lease->report_watch.fd >= 0)
		lease->broker->host_ops->unwatch(lease->broker->host, &lease->report_watch);
	lease->report_watch.fd = -1;
	lease->reports_due = false;
	/* Simulated devices' go with their calls; a kernel answers when its device is detached. */
	for (struct fault *f = TAILQ_FIRST(&lease->faults), *next; f; f = next) {
		next = TAILQ_NEXT(f, of_lease);
		if (!f->call)
			fault_free(f);
	}
}

void faults_deinit(struct lease *lease)
{
	fault_log_free(lease->fault_log);
	lease->fault_log = NULL;
}

static void tell_event(struct lease *lease, const struct fault_where *where)
{
	event_emit(lease->broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_FAULT, lease->tenant, lease,
		   where->ioasid ? where->ioasid->object.id.value : 0, where->device->info->address,
		   "%s at 0x%llx", vocab_fault_name((Ioasid__V1__FaultCause)where->what.cause),
		   (unsigned long long)where->what.address);
}

static struct fault_event event_of(const struct fault_where *where)
{
	return (struct fault_event){
		.ioasid = where->ioasid ? where->ioasid->object.id.value : 0,
		.device = where->device,
		.pasid = where->pasid,
		.what = where->what,
		.last = true,
	};
}

void fault_record(struct lease *lease, const struct fault_where *where)
{
	struct fault_event event = event_of(where);

	tell_event(lease, where);
	fault_log_append(lease, &event);
}

/* ---- requests ---- */

static int fault_new(struct lease *lease, const struct fault_where *where, struct fault **ret_fault)
{
	struct quota_amount amounts[] = {
		{QUOTA_FAULT_SLOTS, 1},
		{QUOTA_BROKER_BYTES, sizeof(struct fault)},
	};
	struct broker *broker = lease->broker;
	struct quota_refusal refusal;
	struct fault *f;
	int r;

	/* Nobody can know its cookie. */
	if (!lease->fault_log)
		return -ENOENT;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	r = charge_take(&f->charge, lease->tenant, amounts, 2, &refusal);
	if (r) {
		free(f);
		return r;
	}
	f->lease = lease;
	f->where = *where;
	f->cookie = ++broker->last_cookie;
	f->deadline_us = broker_now(broker) + broker->fault_timeout_us;
	TAILQ_INSERT_TAIL(&lease->faults, f, of_lease);
	TAILQ_INSERT_TAIL(&broker->faults, f, by_deadline);
	broker_expect(broker, f->deadline_us);
	*ret_fault = f;
	return 0;
}

static void tell_request(const struct fault *f, uint32_t group, bool last)
{
	struct fault_event event = event_of(&f->where);

	event.cookie = f->cookie;
	event.group = group;
	event.last = last;
	event.deadline_us = f->deadline_us;
	fault_log_append(f->lease, &event);
}

bool fault_request(struct broker_call *call, const struct fault_where *where,
		   fault_answered_fn answered, struct fault **ret_fault)
{
	struct device *device = where->device;
	struct fault *f;

	if (fault_new(call->lease, where, &f))
		return false;
	f->call = call;
	f->answered = answered;
	*ret_fault = f;
	tell_request(f, device->fault_group++ & GROUP_MASK, true);
	return true;
}

/* The simulated device goes on. */
static void answer_call(struct fault *f, bool success)
{
	struct broker_call *call = f->call;
	fault_answered_fn answered = f->answered;

	fault_free(f);
	answered(call, success);
}

/* Nobody answered, or nobody can any more. */
static void give_up(struct fault *f)
{
	if (f->call) {
		answer_call(f, false);
		return;
	}
	f->due = true;
	f->lease->reports_due = true;
	if (!f->lease->active && f->lease->state == LEASE_OPEN)
		faults_read_reports(f->lease);
}

void faults_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us)
{
	struct fault *f, *next;

	for (f = TAILQ_FIRST(&broker->faults); f && f->deadline_us <= now_us; f = next) {
		next = TAILQ_NEXT(f, by_deadline);
		if (!f->due)
			give_up(f);
	}
	f = TAILQ_FIRST(&broker->faults);
	while (f && f->due)
		f = TAILQ_NEXT(f, by_deadline);
	if (f && f->deadline_us < *next_us)
		*next_us = f->deadline_us;
}

void faults_drop_ioasid(const struct ioasid *ioasid)
{
	struct fault *f, *next;

	for (f = TAILQ_FIRST(&ioasid->object.lease->faults); f; f = next) {
		next = TAILQ_NEXT(f, of_lease);
		if (f->where.ioasid != ioasid)
			continue;
		/* It may be gone when the answer is given. */
		f->where.ioasid = NULL;
		give_up(f);
	}
}

/* Also through a PASID table that is bound there; a PASID with an attachment of its own was not. */
static bool came_through(const struct fault *f, const struct attachment *a)
{
	if (f->where.device != a->device)
		return false;
	if (f->where.pasid == a->pasid)
		return true;
	return a->pasid == SHIM_NO_PASID && f->where.ioasid == a->ioasid &&
	       !attachment_find(f->lease, a->device, f->where.pasid);
}

void faults_drop_attachment(const struct attachment *a)
{
	struct fault *f, *next;

	for (f = TAILQ_FIRST(&a->ioasid->object.lease->faults); f; f = next) {
		next = TAILQ_NEXT(f, of_lease);
		if (!came_through(f, a))
			continue;
		/* A kernel has answered what waited there when it detached the device. */
		if (f->call)
			answer_call(f, false);
		else
			fault_free(f);
	}
}

/* ---- a kernel's reports ---- */

static struct device *device_of(const struct lease *lease, const struct shim_dev *shim)
{
	struct device *d;

	TAILQ_FOREACH(d, &lease->devices, link)
	if (d->shim == shim)
		return d;
	return NULL;
}

static struct fault *find_group(const struct lease *lease, const struct device *device,
				uint64_t shim_cookie)
{
	struct fault *f;

	TAILQ_FOREACH(f, &lease->faults, of_lease)
	if (!f->call && f->where.device == device && f->shim_cookie == shim_cookie)
		return f;
	return NULL;
}

static void take_report(struct lease *lease, const struct shim_report *report)
{
	struct fault_where where = {.pasid = report->pasid, .what = report->fault};
	struct attachment *a;
	struct fault *f;

	if (report->lost)
		fault_log_lose(lease, report->lost);
	where.device = device_of(lease, report->dev);
	if (!where.device)
		return;
	if (!attachment_has_pasid_table(lease, where.device))
		where.pasid = pasid_guest(lease, report->pasid);
	a = attachment_reached(lease, where.device, where.pasid);
	where.ioasid = a ? a->ioasid : NULL;
	if (!report->cookie) {
		fault_record(lease, &where);
		return;
	}
	f = find_group(lease, where.device, report->cookie);
	if (!f && fault_new(lease, &where, &f)) {
		/* Overflow, or nobody watches: the device is answered at once, and it is told as a
		 * blocked access. */
		if (report->last)
			shim_ctx_answer(lease->ctx, report->cookie, false);
		fault_record(lease, &where);
		return;
	}
	f->shim_cookie = report->cookie;
	f->where.what = report->fault;
	tell_request(f, report->group, report->last);
}

static void answer_due(struct lease *lease)
{
	struct fault *f, *next;

	for (f = TAILQ_FIRST(&lease->faults); f; f = next) {
		next = TAILQ_NEXT(f, of_lease);
		if (!f->due)
			continue;
		shim_ctx_answer(lease->ctx, f->shim_cookie, false);
		fault_free(f);
	}
}

void faults_read_reports(struct lease *lease)
{
	struct shim_report reports[REPORTS];
	size_t n = 0;

	lease->reports_due = false;
	if (!lease->ctx)
		return;
	answer_due(lease);
	if (shim_ctx_read_reports(lease->ctx, reports, REPORTS, &n))
		n = 0;
	for (size_t i = 0; i < n; i++)
		take_report(lease, &reports[i]);
	faults_watch_reports(lease);
}

static void reports_ready(struct broker_watch *watch)
{
	struct lease *lease = CONTAINER_OF(watch, struct lease, report_watch);

	watch->fd = -1;
	lease->reports_due = true;
	if (!lease->active && !lease->running_queue && lease->state == LEASE_OPEN)
		faults_read_reports(lease);
}

void faults_watch_reports(struct lease *lease)
{
	struct broker *broker = lease->broker;
	int fd;

	if (lease->report_watch.fd >= 0 || !lease->ctx)
		return;
	fd = shim_ctx_report_fd(lease->ctx);
	if (fd < 0)
		return;
	lease->report_watch = (struct broker_watch){.fd = fd, .ready = reports_ready};
	if (broker->host_ops->watch(broker->host, &lease->report_watch))
		lease->report_watch.fd = -1;
}

void faults_each_charge(const struct lease *lease, fault_charge_fn each, void *data)
{
	const struct fault *f;

	TAILQ_FOREACH(f, &lease->faults, of_lease)
	each(data, &f->charge);
	fault_log_each_charge(lease->fault_log, each, data);
}

/* ---- WatchFaults, RespondFault ---- */

int rpc_watch_faults(struct broker_call *call)
{
	const Ioasid__V1__WatchFaultsRequest *q = (const void *)call->request;

	if (q->ioasid && !ioasid_find(call->lease, q->ioasid))
		return refuse_id(call, "ioasid", "IOASID", q->ioasid);
	return fault_log_watch(call, q->ioasid, q->after_sequence);
}

struct respond_work {
	struct fault *fault;
	struct lease *lease;
	uint64_t shim_cookie;
	bool success;
	int result;
};

static void respond_run(struct op *op)
{
	struct respond_work *w = call_of_op(op)->data;

	w->result = shim_ctx_answer(w->lease->ctx, w->shim_cookie, w->success);
}

static void respond_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct respond_work *w = call->data;

	/* Only this call answers for the lease now, so the fault is still there. */
	fault_free(w->fault);
	if (w->result && w->result != -ENOENT)
		call_end(call, refuse_shim(call, w->result, "answer a page request", NULL));
	else
		call_end(call, OUTCOME_OK);
}

int rpc_respond_fault(struct broker_call *call)
{
	const Ioasid__V1__RespondFaultRequest *q = (const void *)call->request;
	struct respond_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));
	struct fault *f = NULL;

	if (!w || !call_response(call))
		return refuse_no_memory(call);
	if (!q->cookie)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "cookie", "is never zero");
	if (q->code == IOASID__V1__FAULT_RESPONSE_CODE__FAULT_RESPONSE_CODE_UNSPECIFIED)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "code", "must be given");
	if (call->lease)
		TAILQ_FOREACH(f, &call->lease->faults, of_lease)
	if (f->cookie == q->cookie)
		break;
	if (!f || f->due)
		return refuse(call, OUTCOME_NOT_FOUND,
			      "cookie: no page request %llu waits for an answer",
			      (unsigned long long)q->cookie);
	w->success = q->code == IOASID__V1__FAULT_RESPONSE_CODE__FAULT_RESPONSE_CODE_SUCCESS;
	call->note = w->success ? "success" : "invalid";
	if (f->call) {
		answer_call(f, w->success);
		return OUTCOME_OK;
	}
	w->fault = f;
	w->lease = call->lease;
	w->shim_cookie = f->shim_cookie;
	call->data = w;
	return call_run(call, respond_run, respond_complete, false);
}
