/* SPDX-License-Identifier: Apache-2.0 */
/* Leases that outlive a connection. */
#include "convert.h"
#include "fd_pass.h"
#include "list.h"
#include "mend.h"

#include <string.h>

LIST_LAYOUT(Ioasid__V1__ListLeasesResponse, leases, struct ioasid_leases);

/* Leases are opened and adopted by a connection, not in a lease. */
static int lease_begin(struct call *call, struct ioasid_client *client,
		       const struct ioasid_scope *scope, struct ioasid_error **ret_error)
{
	int r = call_begin(call, client, scope, 0, ret_error);

	call->default_lease = NULL;
	call->scope.lease = (char *)"";
	return r;
}

/* Limits that are set, as the request wants them. */
struct lease_limits {
	Ioasid__V1__ResourceAmount amounts[2];
	Ioasid__V1__ResourceAmount *pointers[2];
	size_t n;
};

static void limits_add(struct lease_limits *limits, const char *resource, uint64_t amount)
{
	Ioasid__V1__ResourceAmount *a = &limits->amounts[limits->n];

	if (amount == UINT64_MAX)
		return;
	ioasid__v1__resource_amount__init(a);
	a->resource = (char *)resource;
	a->amount = amount;
	limits->pointers[limits->n++] = a;
}

static int lease_open(struct call *call, const char *name,
		      const struct ioasid_lease_options *options, const uint8_t *ticket,
		      uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE])
{
	static const struct method method =
		METHOD("Broker", "OpenLease", open_lease_response, true, HOLDS);
	Ioasid__V1__OpenLeaseRequest request = IOASID__V1__OPEN_LEASE_REQUEST__INIT;
	Ioasid__V1__OpenLeaseResponse *response;
	struct lease_limits limits = {.n = 0};
	int r;

	request.scope = call_scope(call);
	request.name = text_or_empty(name);
	request.linger_seconds = options->linger_seconds;
	request.keep = options->keep;
	request.handover = options->handover;
	request.delegate = options->delegate;
	limits_add(&limits, LEASE_IOASIDS, options->max_ioasids);
	limits_add(&limits, LEASE_REGISTERED_BYTES, options->max_registered_bytes);
	request.limits = limits.pointers;
	request.n_limits = limits.n;
	if (ticket) {
		request.watch_ticket.len = IOASID_TICKET_SIZE;
		request.watch_ticket.data = (uint8_t *)ticket;
	}
	do {
		r = call_unary(call, &method, &request.base, &response);
		if (r < 0)
			return r;
		if (response->secret.len != IOASID_LEASE_SECRET_SIZE)
			return error_bad_answer(method.name, "its secret has not 32 bytes",
						call->ret_error);
		r = mend_hold(call, request.name, response->secret.data, call->ret_error);
	} while (r > 0);
	if (!r)
		memcpy(ret_secret, response->secret.data, IOASID_LEASE_SECRET_SIZE);
	return r;
}

/* With a new ticket, as long as the last one died with its broker. */
static int lease_open_watching(struct call *call, const char *name,
			       const struct ioasid_lease_options *options,
			       uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE])
{
	struct fd_pass_retry retry = {0};
	struct ioasid_ticket ticket;
	int r;

	fd_pass_begin(&retry, call);
	do {
		r = fd_pass_give(call, IOASID_TICKET_PROCESS, options->pidfd, &ticket);
		if (!r)
			r = lease_open(call, name, options, ticket.bytes, ret_secret);
	} while (fd_pass_again(&retry, r));
	return fd_pass_end(&retry, r);
}

int ioasid_lease_open_with(struct ioasid_client *client, const struct ioasid_scope *scope,
			   const char *name, const struct ioasid_lease_options *options,
			   uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE],
			   struct ioasid_error **ret_error)
{
	CALL_AUTO struct call call;
	int r = lease_begin(&call, client, scope, ret_error);

	if (!r && !options)
		r = call_invalid(&call, "options is NULL");
	if (r < 0)
		return r;
	if (options->pidfd >= 0)
		return lease_open_watching(&call, name, options, ret_secret);
	return lease_open(&call, name, options, NULL, ret_secret);
}

int ioasid_lease_open(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *name, uint32_t linger_seconds, int pidfd,
		      uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE], struct ioasid_error **ret_error)
{
	struct ioasid_lease_options options = IOASID_LEASE_OPTIONS_INIT;

	options.linger_seconds = linger_seconds;
	options.pidfd = pidfd;
	return ioasid_lease_open_with(client, scope, name, &options, ret_secret, ret_error);
}

int ioasid_lease_open_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			     const char *name, uint32_t linger_seconds,
			     const uint8_t ticket[IOASID_TICKET_SIZE],
			     uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE],
			     struct ioasid_error **ret_error)
{
	struct ioasid_lease_options options = IOASID_LEASE_OPTIONS_INIT;
	CALL_AUTO struct call call;
	int r = lease_begin(&call, client, scope, ret_error);

	if (!r && !ticket)
		r = call_invalid(&call, "ticket is NULL");
	options.linger_seconds = linger_seconds;
	return r < 0 ? r : lease_open(&call, name, &options, ticket, ret_secret);
}

const struct method method_adopt_lease =
	METHOD("Broker", "AdoptLease", adopt_lease_response, true, HOLDS);

int ioasid_lease_adopt(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *name, const uint8_t secret[IOASID_LEASE_SECRET_SIZE],
		       struct ioasid_error **ret_error)
{
	Ioasid__V1__AdoptLeaseRequest request = IOASID__V1__ADOPT_LEASE_REQUEST__INIT;
	Ioasid__V1__AdoptLeaseResponse *response;
	CALL_AUTO struct call call;
	int r = lease_begin(&call, client, scope, ret_error);

	if (!r && !secret)
		r = call_invalid(&call, "secret is NULL");
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.name = text_or_empty(name);
	request.secret.len = IOASID_LEASE_SECRET_SIZE;
	request.secret.data = (uint8_t *)secret;
	do {
		r = call_unary(&call, &method_adopt_lease, &request.base, &response);
		if (!r)
			r = mend_hold(&call, request.name, secret, ret_error);
	} while (r > 0);
	return r;
}

/* Its end is what the program wants, however it came. */
static bool is_closed(const struct call *call, const struct ioasid_error *error)
{
	return ioasid_error_is_lease_lost(error) ||
	       (call->interrupted && ioasid_error_is_not_found(error));
}

int ioasid_lease_close(struct ioasid_client *client, const struct ioasid_scope *scope,
		       struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "CloseLease", close_lease_response, true, IN_LEASE);
	Ioasid__V1__CloseLeaseRequest request = IOASID__V1__CLOSE_LEASE_REQUEST__INIT;
	Ioasid__V1__CloseLeaseResponse *response;
	struct ioasid_error *error = NULL;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, &error);

	if (!r) {
		request.scope = call_scope(&call);
		r = call_unary(&call, &method, &request.base, &response);
		if (r < 0 && is_closed(&call, error))
			r = 0;
	}
	if (!r)
		mend_release(&call);
	if (r < 0 && ret_error)
		*ret_error = error;
	else
		ioasid_error_free(error);
	return r;
}

int ioasid_lease_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		      struct ioasid_leases **ret_leases, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListLeases", list_leases_response, false, OUTSIDE_LEASES);
	Ioasid__V1__ListLeasesRequest request = IOASID__V1__LIST_LEASES_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_leases), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_lease), convert_lease);
	return r < 0 ? r : call_publish(&call, ret_leases);
}

void ioasid_leases_free(struct ioasid_leases *leases)
{
	result_free_root(leases);
}
