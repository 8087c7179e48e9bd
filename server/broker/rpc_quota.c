/* SPDX-License-Identifier: Apache-2.0 */
/* GetQuota and ExplainQuota: what a tenant uses, and whether more would fit.  Reads only. */
#include "server/broker/rpc_quota.h"

#include <stdio.h>

#define AMOUNTS_MAX 64

bool usage_describe(struct scratch *scratch, const struct tenant *tenant, bool unused,
		    size_t *ret_n, Ioasid__V1__ResourceUsage ***ret_resources)
{
	Ioasid__V1__ResourceUsage **list = scratch_calloc(scratch, _QUOTA_MAX, sizeof(*list));
	Ioasid__V1__ResourceUsage *u = scratch_calloc(scratch, _QUOTA_MAX, sizeof(*u));
	const struct quota_node *q = &tenant->quota;
	size_t n = 0;

	if (!list || !u)
		return false;
	for (unsigned r = 0; r < _QUOTA_MAX; r++) {
		bool counted = r < _QUOTA_COUNTED_MAX;

		if (!unused && q->limit[r] == QUOTA_UNLIMITED && !q->refused[r] &&
		    !(counted && (q->need[r] || q->peak[r] || q->reserved[r])))
			continue;
		ioasid__v1__resource_usage__init(&u[n]);
		u[n].resource = (char *)quota_resource_name(r);
		u[n].limit = q->limit[r];
		if (counted) {
			u[n].reserved = q->reserved[r];
			u[n].used = q->need[r];
			u[n].own = q->own[r];
			u[n].peak = q->peak[r];
		}
		u[n].refused_local = q->refused_local[r];
		u[n].refused = q->refused[r];
		list[n] = &u[n];
		n++;
	}
	*ret_n = n;
	*ret_resources = list;
	return true;
}

int rpc_get_quota(struct broker_call *call)
{
	Ioasid__V1__GetQuotaResponse *p = call_response(call);
	const struct tenant *tenant = call->tenant ?: call->session->tenant;

	if (!p || !usage_describe(&call->scratch, tenant, true, &p->n_resources, &p->resources))
		return refuse_no_memory(call);
	p->tenant = (char *)tenant->path;
	return OUTCOME_OK;
}

static int explain_refusal(struct broker_call *call, Ioasid__V1__ExplainQuotaResponse *p,
			   const struct quota_refusal *refusal)
{
	const struct tenant *refusing = CONTAINER_OF(refusal->node, struct tenant, quota);

	refuse_quota(call, refusal);
	p->refusing_tenant = refusing->path[0] ? (char *)refusing->path : (char *)"host";
	p->resource = (char *)quota_resource_name(refusal->resource);
	p->explanation = (char *)call->outcome.message;
	outcome_init(&call->outcome);
	return OUTCOME_OK;
}

int rpc_explain_quota(struct broker_call *call)
{
	const Ioasid__V1__ExplainQuotaRequest *q = (const void *)call->request;
	Ioasid__V1__ExplainQuotaResponse *p = call_response(call);
	struct tenant *tenant = call->tenant ?: call->session->tenant;
	struct quota_amount amounts[AMOUNTS_MAX];
	struct quota_refusal refusal;
	size_t n = 0;

	if (!p)
		return refuse_no_memory(call);
	if (!q->n_amounts)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "amounts", "none given");
	if (q->n_amounts > AMOUNTS_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "amounts", "at most %d, found %zu",
				    AMOUNTS_MAX, q->n_amounts);
	for (size_t i = 0; i < q->n_amounts; i++) {
		const Ioasid__V1__ResourceAmount *a = q->amounts[i];
		enum quota_resource r;
		char field[48];

		snprintf(field, sizeof(field), "amounts[%zu].resource", i);
		if (quota_resource_from_name(a->resource, &r))
			return refuse_field(call, OUTCOME_INVALID_FIELD, field,
					    "no resource \"%s\"", a->resource);
		if (r >= _QUOTA_CEILING_MAX)
			return refuse_field(call, OUTCOME_INVALID_FIELD, field,
					    "%s is a rate, not an amount", a->resource);
		if (r < _QUOTA_COUNTED_MAX) {
			amounts[n++] = (struct quota_amount){r, a->amount};
			continue;
		}
		refusal = (struct quota_refusal){.resource = r, .requested = a->amount};
		refusal.limit = quota_ceiling(&tenant->quota, r, &refusal.node);
		if (a->amount > refusal.limit)
			return explain_refusal(call, p, &refusal);
	}
	if (quota_probe(&tenant->quota, amounts, n, &refusal))
		return explain_refusal(call, p, &refusal);
	p->fits = true;
	return OUTCOME_OK;
}
