/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusals: the words and details of an outcome.  What a refusal by quota discloses is
 * decided here and nowhere else: a tenant sees the numbers of its own limit; of an ancestor
 * only its name and the resource; admin, observer and an agent of that subtree see all.
 */
#include "server/broker/call.h"

#include <stdio.h>
#include <string.h>

int refuse(struct broker_call *call, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	call->outcome.code = code;
	call->outcome.message = outcome_text(&call->scratch, format, ap) ?: "out of memory";
	va_end(ap);
	return code;
}

int refuse_field(struct broker_call *call, int code, const char *field, const char *format, ...)
{
	va_list ap;
	const char *text;

	va_start(ap, format);
	text = outcome_text(&call->scratch, format, ap);
	va_end(ap);
	if (!text)
		return refuse_no_memory(call);
	outcome_add_violation(&call->outcome, &call->scratch, field, "%s", text);
	return refuse(call, code, "%s: %s", field, text);
}

int refuse_precondition(struct broker_call *call, int code, const char *subject, const char *format,
			...)
{
	va_list ap;
	const char *text;

	va_start(ap, format);
	text = outcome_text(&call->scratch, format, ap);
	va_end(ap);
	if (!text)
		return refuse_no_memory(call);
	outcome_add_violation(&call->outcome, &call->scratch, subject, "%s", text);
	return refuse(call, code, "%s: %s", subject, text);
}

int refuse_id(struct broker_call *call, const char *field, const char *what, uint64_t id)
{
	if (id == 0)
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "an id is never zero");
	return refuse(call, OUTCOME_NOT_FOUND, "no %s %llu", what, (unsigned long long)id);
}

int refuse_no_memory(struct broker_call *call)
{
	call->outcome.code = OUTCOME_NO_MEMORY;
	call->outcome.message = "the broker is out of memory";
	call->outcome.n_violations = 0;
	call->outcome.n_metadata = 0;
	return OUTCOME_NO_MEMORY;
}

/* Whose numbers may the caller see? */
static bool may_see(const struct broker_call *call, const struct tenant *refusing)
{
	const struct broker_session *session = call->session;

	if (!session || !session->tenant)
		return false;
	if (session->role == POLICY_ROLE_TENANT)
		return refusing == session->tenant;
	return tenant_is_below(refusing, session->tenant);
}

/* subject is what is over its limit, who the same in a sentence. */
static int refuse_with_numbers(struct broker_call *call, int code, const char *subject,
			       const char *who, const struct quota_refusal *refusal)
{
	const char *resource = quota_resource_name(refusal->resource);
	struct outcome *o = &call->outcome;
	struct scratch *a = &call->scratch;

	outcome_add_metadata(o, a, "limit", "%llu", (unsigned long long)refusal->limit);
	outcome_add_metadata(o, a, "used", "%llu", (unsigned long long)refusal->used);
	outcome_add_metadata(o, a, "requested", "%llu", (unsigned long long)refusal->requested);
	outcome_add_violation(o, a, subject, "%s: limit %llu, used %llu, requested %llu", resource,
			      (unsigned long long)refusal->limit, (unsigned long long)refusal->used,
			      (unsigned long long)refusal->requested);
	return refuse(call, code, "%s of %s: limit %llu, used %llu, requested %llu", resource, who,
		      (unsigned long long)refusal->limit, (unsigned long long)refusal->used,
		      (unsigned long long)refusal->requested);
}

int refuse_quota(struct broker_call *call, const struct quota_refusal *refusal)
{
	const struct tenant *refusing = CONTAINER_OF(refusal->node, struct tenant, quota);
	const char *resource = quota_resource_name(refusal->resource);
	const char *who = refusing->path[0] ? refusing->path : "host";
	bool rate = refusal->resource >= _QUOTA_CEILING_MAX;
	int code = rate ? OUTCOME_RATE : OUTCOME_QUOTA;
	struct outcome *o = &call->outcome;
	struct scratch *a = &call->scratch;

	o->n_violations = 0;
	o->violations_bytes = 0;
	outcome_add_metadata(o, a, "tenant", "%s", who);
	outcome_add_metadata(o, a, "resource", "%s", resource);
	if (rate)
		o->retry_after_us = refusal->retry_after_us ?: 1;
	if (!may_see(call, refusing)) {
		call->audit_message = scratch_printf(
			a, "%s of %s: limit %llu, used %llu, requested %llu", resource, who,
			(unsigned long long)refusal->limit, (unsigned long long)refusal->used,
			(unsigned long long)refusal->requested);
		outcome_add_violation(o, a, who, "%s: over the limit of this ancestor", resource);
		return refuse(call, code, "%s of %s: over the limit", resource, who);
	}
	return refuse_with_numbers(call, code, who, who, refusal);
}

int refuse_lease_limit(struct broker_call *call, enum quota_resource resource, uint64_t limit,
		       uint64_t used, uint64_t requested)
{
	const char *lease = call->lease->name ?: "";
	char who[sizeof("lease ") + LEASE_NAME_MAX];

	/* Whoever acts in the lease may know what it may hold. */
	snprintf(who, sizeof(who), "lease %s", lease);
	outcome_add_metadata(&call->outcome, &call->scratch, "lease", "%s", lease);
	outcome_add_metadata(&call->outcome, &call->scratch, "resource", "%s",
			     quota_resource_name(resource));
	return refuse_with_numbers(call, OUTCOME_QUOTA, lease, who,
				   &(struct quota_refusal){.resource = resource,
							   .limit = limit,
							   .used = used,
							   .requested = requested});
}

int refuse_registry_full(struct broker_call *call)
{
	return refuse(call, OUTCOME_REGISTRY_FULL,
		      "the registry cannot take it: its file system is full");
}

int refuse_charge(struct broker_call *call, int error, const struct quota_refusal *refusal)
{
	if (error == -ENOSPC)
		return refuse_registry_full(call);
	return error > 0 ? refuse_quota(call, refusal) : refuse_no_memory(call);
}

int refuse_shim(struct broker_call *call, int error, const char *what, const char *reason)
{
	if (error == -ENOMEM)
		return refuse_no_memory(call);
	if (error == -ECANCELED)
		return refuse(call, OUTCOME_CANCELLED, "%s: the caller or its lease went away",
			      what);
	if (error == SHIM_E_GONE)
		return refuse(call, OUTCOME_SHIM_GONE, "%s: %s", what,
			      reason && reason[0] ? reason : "the shim has lost it");
	/* The keeper is not there, or ended meanwhile. */
	if (error == -ECONNREFUSED || error == -EPIPE)
		return refuse(call, OUTCOME_SHIM_GONE, "%s: the keeper does not answer", what);
	if (error == -ENODEV || error == -EIO)
		return refuse(call, OUTCOME_SHIM_GONE, "%s: the shim answered: %s", what,
			      strerror(-error));
	if (error < 0)
		return refuse(call, OUTCOME_INTERNAL, "%s: the shim answered: %s", what,
			      strerror(-error));
	if (error == SHIM_E_LIMIT)
		return refuse(call, OUTCOME_QUOTA, "%s: %s", what,
			      reason && reason[0] ? reason : "a limit of the shim");
	return refuse(call, OUTCOME_INTERNAL, "%s: the shim refused with code %d%s%s", what, error,
		      reason && reason[0] ? ": " : "", reason ? reason : "");
}
