/* SPDX-License-Identifier: Apache-2.0 */
/* What a tenant may have and has. */
#include "amounts.h"
#include "convert.h"
#include "list.h"

int amounts_fill(struct call *call, const char *name, const struct ioasid_resource_amount *amounts,
		 size_t n, Ioasid__V1__ResourceAmount ***ret_messages)
{
	Ioasid__V1__ResourceAmount **messages;
	int r = call_check_array(call, name, amounts, n);

	if (r < 0)
		return r;
	messages = result_table(call->result, n, sizeof(**messages));
	if (n && !messages)
		return error_no_memory(call->ret_error);
	for (size_t i = 0; i < n; i++) {
		ioasid__v1__resource_amount__init(messages[i]);
		messages[i]->resource = text_or_empty(amounts[i].resource);
		messages[i]->amount = amounts[i].amount;
	}
	*ret_messages = messages;
	return 0;
}

int ioasid_quota_get(struct ioasid_client *client, const struct ioasid_scope *scope,
		     struct ioasid_quota **ret_quota, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "GetQuota", get_quota_response, false, OUTSIDE_LEASES);
	Ioasid__V1__GetQuotaRequest request = IOASID__V1__GET_QUOTA_REQUEST__INIT;
	Ioasid__V1__GetQuotaResponse *response;
	struct ioasid_quota *to;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*to), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0)
		return r;
	to = call_root(&call);
	to->tenant = response->tenant;
	to->n_resources = response->n_resources;
	to->resources =
		list_convert(call.result, response->n_resources, (void **)response->resources,
			     sizeof(**to->resources), convert_usage);
	return call_publish(&call, ret_quota);
}

int ioasid_quota_explain(struct ioasid_client *client, const struct ioasid_scope *scope,
			 const struct ioasid_resource_amount *amounts, size_t n_amounts,
			 struct ioasid_quota_answer **ret_answer, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ExplainQuota", explain_quota_response, false, OUTSIDE_LEASES);
	Ioasid__V1__ExplainQuotaRequest request = IOASID__V1__EXPLAIN_QUOTA_REQUEST__INIT;
	Ioasid__V1__ExplainQuotaResponse *response;
	struct ioasid_quota_answer *to;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*to), ret_error);

	if (!r)
		r = amounts_fill(&call, "amounts", amounts, n_amounts, &request.amounts);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.n_amounts = n_amounts;
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0)
		return r;
	to = call_root(&call);
	to->fits = response->fits;
	to->refusing_tenant = response->refusing_tenant;
	to->resource = response->resource;
	to->explanation = response->explanation;
	return call_publish(&call, ret_answer);
}

void ioasid_quota_free(struct ioasid_quota *quota)
{
	result_free_root(quota);
}

void ioasid_quota_answer_free(struct ioasid_quota_answer *answer)
{
	result_free_root(answer);
}
