/* SPDX-License-Identifier: Apache-2.0 */
/* The Admin service but for its events. */
#include "amounts.h"
#include "convert.h"
#include "list.h"

LIST_LAYOUT(Ioasid__V1__ListTenantsResponse, tenants, struct ioasid_tenants);
LIST_LAYOUT(Ioasid__V1__ListObjectsResponse, leases, struct ioasid_objects);

static void convert_tenant(struct result *result, const void *message, void *ret_tenant)
{
	const Ioasid__V1__Tenant *from = message;
	struct ioasid_tenant *to = ret_tenant;

	to->path = from->path;
	to->parent = from->parent;
	to->n_resources = from->n_resources;
	to->resources = list_convert(result, from->n_resources, (void **)from->resources,
				     sizeof(**to->resources), convert_usage);
	to->draining = from->draining;
	to->orphaned = from->orphaned;
}

int ioasid_tenant_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *subtree, bool with_unused, struct ioasid_tenants **ret_tenants,
		       struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Admin", "ListTenants", list_tenants_response, false, OUTSIDE_LEASES);
	Ioasid__V1__ListTenantsRequest request = IOASID__V1__LIST_TENANTS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_tenants), ret_error);

	if (r < 0)
		return r;
	request.subtree = text_or_empty(subtree);
	request.with_unused = with_unused;
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_tenant), convert_tenant);
	return r < 0 ? r : call_publish(&call, ret_tenants);
}

int ioasid_limits_set(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *tenant, const struct ioasid_resource_amount *limits,
		      size_t n_limits, struct ioasid_tenant **ret_tenant,
		      struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Admin", "SetLimits", set_limits_response, true, OUTSIDE_LEASES);
	Ioasid__V1__SetLimitsRequest request = IOASID__V1__SET_LIMITS_REQUEST__INIT;
	Ioasid__V1__SetLimitsResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_tenant), ret_error);

	if (!r)
		r = amounts_fill(&call, "limits", limits, n_limits, &request.limits);
	if (r < 0)
		return r;
	request.tenant = text_or_empty(tenant);
	request.n_limits = n_limits;
	request.key = call_key(&call);
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0 || !ret_tenant)
		return r;
	if (!response->tenant)
		return error_bad_answer(method.name, "it has no tenant", ret_error);
	convert_tenant(call.result, response->tenant, call_root(&call));
	return call_publish(&call, ret_tenant);
}

int ioasid_policy_reload(struct ioasid_client *client, const struct ioasid_scope *scope,
			 struct ioasid_reload **ret_reload, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Admin", "ReloadPolicy", reload_policy_response, true, OUTSIDE_LEASES);
	Ioasid__V1__ReloadPolicyRequest request = IOASID__V1__RELOAD_POLICY_REQUEST__INIT;
	Ioasid__V1__ReloadPolicyResponse *response;
	struct ioasid_reload *to;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*to), ret_error);

	if (r < 0)
		return r;
	request.key = call_key(&call);
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0 || !ret_reload)
		return r;
	to = call_root(&call);
	to->generation = response->generation;
	to->n_orphaned = response->n_orphaned;
	to->orphaned = list_strings(response->orphaned);
	return call_publish(&call, ret_reload);
}

int ioasid_tenant_drain(struct ioasid_client *client, const struct ioasid_scope *scope,
			const char *tenant, bool drain, bool close_leases,
			uint64_t *ret_leases_closed, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Admin", "DrainTenant", drain_tenant_response, true, OUTSIDE_LEASES);
	Ioasid__V1__DrainTenantRequest request = IOASID__V1__DRAIN_TENANT_REQUEST__INIT;
	Ioasid__V1__DrainTenantResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.tenant = text_or_empty(tenant);
	request.drain = drain;
	request.close_leases = close_leases;
	request.key = call_key(&call);
	r = call_unary(&call, &method, &request.base, &response);
	if (!r && ret_leases_closed)
		*ret_leases_closed = response->leases_closed;
	return r;
}

static int revoke(struct call *call, Ioasid__V1__RevokeRequest *request)
{
	static const struct method method =
		METHOD("Admin", "Revoke", revoke_response, true, OUTSIDE_LEASES);
	Ioasid__V1__RevokeResponse *response;

	request->key = call_key(call);
	return call_unary(call, &method, &request->base, &response);
}

int ioasid_revoke_lease(struct ioasid_client *client, const struct ioasid_scope *scope,
			uint64_t serial, struct ioasid_error **ret_error)
{
	Ioasid__V1__RevokeRequest request = IOASID__V1__REVOKE_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.what_case = IOASID__V1__REVOKE_REQUEST__WHAT_LEASE_SERIAL;
	request.lease_serial = serial;
	return revoke(&call, &request);
}

int ioasid_revoke_device(struct ioasid_client *client, const struct ioasid_scope *scope,
			 const char *device, struct ioasid_error **ret_error)
{
	Ioasid__V1__RevokeRequest request = IOASID__V1__REVOKE_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.what_case = IOASID__V1__REVOKE_REQUEST__WHAT_DEVICE;
	request.device = text_or_empty(device);
	return revoke(&call, &request);
}

static void convert_objects(struct result *result, const void *message, void *ret_objects)
{
	/* Never NULL for the program. */
	static const Ioasid__V1__Lease none = IOASID__V1__LEASE__INIT;
	const Ioasid__V1__LeaseObjects *from = message;
	struct ioasid_lease_objects *to = ret_objects;

	to->lease =
		convert_optional(result, from->lease ?: &none, sizeof(*to->lease), convert_lease);
	to->n_ioasids = from->n_ioasids;
	to->ioasids = list_convert(result, from->n_ioasids, (void **)from->ioasids,
				   sizeof(**to->ioasids), convert_info);
	to->n_memories = from->n_memory;
	to->memories = list_convert(result, from->n_memory, (void **)from->memory,
				    sizeof(**to->memories), convert_memory);
	to->n_attachments = from->n_attachments;
	to->attachments = list_convert(result, from->n_attachments, (void **)from->attachments,
				       sizeof(**to->attachments), convert_attachment);
	to->n_devices = from->n_devices;
	to->devices = list_strings(from->devices);
	to->omitted = from->omitted;
	to->pending = from->pending;
	to->n_vms = from->n_vms;
	to->vms = list_convert(result, from->n_vms, (void **)from->vms, sizeof(**to->vms),
			       convert_vm);
}

int ioasid_object_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *subtree, struct ioasid_objects **ret_objects,
		       struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Admin", "ListObjects", list_objects_response, false, OUTSIDE_LEASES);
	Ioasid__V1__ListObjectsRequest request = IOASID__V1__LIST_OBJECTS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_objects), ret_error);

	if (r < 0)
		return r;
	request.subtree = text_or_empty(subtree);
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_lease_objects), convert_objects);
	return r < 0 ? r : call_publish(&call, ret_objects);
}

void ioasid_tenant_free(struct ioasid_tenant *tenant)
{
	result_free_root(tenant);
}

void ioasid_tenants_free(struct ioasid_tenants *tenants)
{
	result_free_root(tenants);
}

void ioasid_reload_free(struct ioasid_reload *reload)
{
	result_free_root(reload);
}

void ioasid_objects_free(struct ioasid_objects *objects)
{
	result_free_root(objects);
}
