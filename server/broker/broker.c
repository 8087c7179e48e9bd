/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker as a whole: its start, its ticks, policy reload, its end.
 *
 * Invariant at the end: every tenant's counters are zero; tenants_destroy() asserts it.
 * State thread.
 */
#include "server/broker/broker.h"

#include "server/broker/call.h"
#include "server/broker/compact.h"
#include "server/broker/device.h"
#include "server/broker/device_held.h"
#include "server/broker/dma_service.h"
#include "server/broker/event.h"
#include "server/broker/journal.h"
#include "server/broker/kept_fd.h"
#include "server/broker/key_table.h"
#include "server/broker/lease.h"
#include "server/broker/session.h"
#include "server/broker/fault.h"
#include "server/broker/pasid.h"
#include "server/broker/ticket.h"

#include "vocab.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

/* The API's numbers are the shim's. */
_Static_assert((int)IOASID__V1__PAGE_TABLE_FORMAT__PAGE_TABLE_FORMAT_KERNEL_CHOSEN ==
		       (int)SHIM_FORMAT_KERNEL_CHOSEN,
	       "formats");
_Static_assert((int)IOASID__V1__IOASID_KIND__IOASID_KIND_KVM == (int)SHIM_KIND_KVM, "kinds");
_Static_assert((int)IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_ACCESS_FLAG == (int)SHIM_FAULT_ACCESS_FLAG,
	       "fault causes");
_Static_assert((int)IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_PASID_CACHE ==
		       (int)SHIM_INVALIDATE_PASID_CACHE,
	       "granularities");

const struct policy_vocabulary *broker_policy_vocabulary(void)
{
	static struct policy_vocabulary vocabulary;

	vocabulary.formats = vocab_formats;
	vocabulary.n_formats = vocab_n_formats;
	vocabulary.kinds = vocab_kinds;
	vocabulary.n_kinds = vocab_n_kinds;
	return &vocabulary;
}

void broker_log(struct broker *broker, int level, const char *format, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	broker->host_ops->log(broker->host, level, line);
}

int broker_new(const struct broker_config *config, struct broker **ret_broker)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	int r;

	if (!broker)
		return -ENOMEM;
	broker->host_ops = config->host_ops;
	broker->host = config->host;
	broker->shim = config->shim;
	broker->policy_generation = 1;
	broker->next_expiry_us = UINT64_MAX;
	TAILQ_INIT(&broker->dma_accesses);
	broker->started_us = broker_now(broker);
	RB_INIT(&broker->tenants);
	RB_INIT(&broker->tickets);
	TAILQ_INIT(&broker->faults);
	broker->fault_timeout_us = config->fault_timeout_us ?: FAULT_TIMEOUT_US;
	TAILQ_INIT(&broker->sessions);
	TAILQ_INIT(&broker->leases);
	LIST_INIT(&broker->delegations);
	LIST_INIT(&broker->ranges);
	STAILQ_INIT(&broker->later);
	if (config->policy_path) {
		broker->policy_path = strdup(config->policy_path);
		r = broker->policy_path ? 0 : -ENOMEM;
		if (r)
			goto fail;
	}
	r = event_log_new(&broker->events);
	if (!r)
		r = compact_cursor_new(&broker->compaction);
	if (!r)
		r = kept_fds_new(broker, config->keeper, &broker->kept_fds);
	if (!r)
		r = devices_create(broker);
	if (!r)
		r = tenants_create(broker, config->policy);
	if (r)
		goto fail;
	broker->policy = config->policy;
	*ret_broker = broker;
	return 0;
fail:
	devices_destroy(broker);
	kept_fds_free(broker->kept_fds);
	compact_cursor_free(broker->compaction);
	event_log_free(broker->events);
	free(broker->policy_path);
	free(broker);
	return r;
}

void broker_free(struct broker *broker)
{
	if (!broker)
		return;
	assert(TAILQ_EMPTY(&broker->sessions) && TAILQ_EMPTY(&broker->leases));
	assert(TAILQ_EMPTY(&broker->faults));
	pasid_pool_free(broker->pasids);
	assert(RB_EMPTY(&broker->tickets) && LIST_EMPTY(&broker->ranges));
	assert(!broker->n_ops && !broker->n_calls && !broker->n_ioasids);
	key_table_free(broker->keys);
	tenants_destroy(broker);
	devices_destroy(broker);
	kept_fds_free(broker->kept_fds);
	compact_cursor_free(broker->compaction);
	event_log_free(broker->events);
	policy_free(broker->policy);
	free(broker->policy_path);
	free(broker);
}

/* ---- time ---- */

uint64_t broker_next_deadline(struct broker *broker)
{
	return STAILQ_EMPTY(&broker->later) ? broker->next_expiry_us : 0;
}

void broker_tick(struct broker *broker)
{
	struct op_queue now = STAILQ_HEAD_INITIALIZER(now);
	uint64_t us = broker_now(broker), next = UINT64_MAX;
	struct op *op;

	/* What is queued meanwhile waits for the next tick, so that I/O comes in between. */
	STAILQ_CONCAT(&now, &broker->later);
	while ((op = STAILQ_FIRST(&now))) {
		STAILQ_REMOVE_HEAD(&now, later);
		broker->n_ops--;
		op->complete(op);
	}
	if (us < broker->next_expiry_us)
		return;
	broker->next_expiry_us = UINT64_MAX;
	tickets_expire(broker, us, &next);
	lease_expire(broker, us, &next);
	devices_held_tick(broker, us, &next);
	kept_fds_tick(broker, us, &next);
	faults_expire(broker, us, &next);
	dma_services_expire(broker, us, &next);
	broker_expect(broker, next);
}

/* ---- policy ---- */

int broker_reload_policy(struct broker *broker, char *ret_problem, size_t problem_size)
{
	struct quota_refusal refusal;
	struct policy_problem problem;
	struct policy *policy;
	int r;

	if (!broker->policy_path) {
		snprintf(ret_problem, problem_size, "the broker was started without a policy path");
		return POLICY_E_INVALID;
	}
	r = policy_load(broker->policy_path, broker_policy_vocabulary(), &policy, &problem);
	if (r > 0) {
		snprintf(ret_problem, problem_size, "%s:%u:%u: %s: %s", problem.file, problem.line,
			 problem.column, problem.path, problem.message);
		return POLICY_E_INVALID;
	}
	if (r < 0) {
		snprintf(ret_problem, problem_size, "%s: %s", broker->policy_path, strerror(-r));
		return r == -ENOMEM ? r : POLICY_E_INVALID;
	}
	r = tenants_reload(broker, policy, &refusal);
	if (r) {
		policy_free(policy);
		if (r < 0) {
			snprintf(ret_problem, problem_size, "out of memory");
			return r;
		}
		snprintf(ret_problem, problem_size,
			 "a reservation of %s does not fit: %s has limit %llu, uses %llu",
			 quota_resource_name(refusal.resource),
			 CONTAINER_OF(refusal.node, struct tenant, quota)->path,
			 (unsigned long long)refusal.limit, (unsigned long long)refusal.used);
		return POLICY_E_INVALID;
	}
	policy_free(broker->policy);
	broker->policy = policy;
	broker->policy_generation++;
	for (struct tenant *t = tenant_first(broker); t; t = tenant_next(t)) {
		if (t->limits_unset)
			journal_tenant(broker, t);
		t->limits_unset = false;
	}
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_POLICY_RELOADED, NULL, NULL, 0, NULL,
		   "generation %llu", (unsigned long long)broker->policy_generation);
	broker_log(broker, LOG_NOTICE, "policy reloaded, generation %llu",
		   (unsigned long long)broker->policy_generation);
	sessions_reidentify(broker);
	return 0;
}

/* ---- end ---- */

void broker_ending(struct broker *broker)
{
	broker->ending = true;
}

void broker_shutdown(struct broker *broker)
{
	struct lease *lease, *next;
	struct broker_session *s;

	broker->shutting_down = true;
	TAILQ_FOREACH(s, &broker->sessions, all)
	broker->host_ops->kick(broker->host, s->connection);
	if (broker->registry)
		compact_stop(broker);
	for (lease = TAILQ_FIRST(&broker->leases); lease; lease = next) {
		next = TAILQ_NEXT(lease, all);
		if (broker->registry)
			lease_leave(lease, "the broker is shutting down");
		else
			lease_close(lease, "the broker is shutting down");
	}
	devices_held_forget(broker);
	kept_fds_stop(broker->kept_fds);
}

bool broker_drained(struct broker *broker)
{
	return TAILQ_EMPTY(&broker->sessions) && TAILQ_EMPTY(&broker->leases) && !broker->n_calls &&
	       !broker->n_ops;
}
