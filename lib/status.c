/* SPDX-License-Identifier: Apache-2.0 */
/* What a broker says of itself, and whether it agrees with itself. */
#include "convert.h"
#include "list.h"

const struct method method_get_status =
	METHOD("Broker", "GetStatus", get_status_response, false, OUTSIDE_LEASES);

static void convert_restart(struct result *result, const void *message, void *ret_restart)
{
	const Ioasid__V1__RestartReport *from = message;
	struct ioasid_restart *to = ret_restart;

	to->leases_restored = from->leases_restored;
	to->leases_ended = from->leases_ended;
	to->memories = from->memories;
	to->ioasids = from->ioasids;
	to->mappings = from->mappings;
	to->attachments = from->attachments;
	to->devices = from->devices;
	to->undone = from->undone;
	to->redone = from->redone;
	to->strays = from->strays;
	to->damaged_records = from->damaged_records;
	to->other_boot_leases = from->other_boot_leases;
	to->duration_us = from->duration_us;
}

int ioasid_server_status(struct ioasid_client *client, const struct ioasid_scope *scope,
			 struct ioasid_server_status **ret_status, struct ioasid_error **ret_error)
{
	Ioasid__V1__GetStatusRequest request = IOASID__V1__GET_STATUS_REQUEST__INIT;
	Ioasid__V1__GetStatusResponse *response;
	struct ioasid_server_status *to;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*to), ret_error);

	if (r < 0)
		return r;
	r = call_unary(&call, &method_get_status, &request.base, &response);
	if (r < 0)
		return r;
	to = call_root(&call);
	to->version = response->version;
	to->shim = response->shim;
	to->n_capabilities = response->n_capabilities;
	to->capabilities = list_strings(response->capabilities);
	to->role = response->role;
	to->tenant = response->tenant;
	to->uptime_seconds = response->uptime_seconds;
	to->connections = response->connections;
	to->leases = response->leases;
	to->ioasids = response->ioasids;
	to->policy_generation = response->policy_generation;
	to->registry_generation = response->registry_generation;
	to->restart = convert_optional(call.result, response->restart, sizeof(*to->restart),
				       convert_restart);
	return call_publish(&call, ret_status);
}

static void convert_problem(struct result *result, const void *message, void *ret_problem)
{
	const Ioasid__V1__CheckProblem *from = message;
	struct ioasid_check_problem *to = ret_problem;

	to->subject = from->subject;
	to->text = from->text;
}

int ioasid_check(struct ioasid_client *client, const struct ioasid_scope *scope,
		 struct ioasid_check_report **ret_report, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Admin", "Check", check_response, false, OUTSIDE_LEASES);
	Ioasid__V1__CheckRequest request = IOASID__V1__CHECK_REQUEST__INIT;
	Ioasid__V1__CheckResponse *response;
	struct ioasid_check_report *to;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*to), ret_error);

	if (r < 0)
		return r;
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0)
		return r;
	to = call_root(&call);
	to->n_problems = response->n_problems;
	to->problems = list_convert(call.result, response->n_problems, (void **)response->problems,
				    sizeof(**to->problems), convert_problem);
	to->omitted = response->omitted;
	to->tenants = response->tenants;
	to->leases = response->leases;
	to->objects = response->objects;
	to->counters = response->counters;
	return call_publish(&call, ret_report);
}

void ioasid_server_status_free(struct ioasid_server_status *status)
{
	result_free_root(status);
}

void ioasid_check_report_free(struct ioasid_check_report *report)
{
	result_free_root(report);
}
