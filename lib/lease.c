/* SPDX-License-Identifier: Apache-2.0 */
/* Leases that outlive a connection. */
#include "convert.h"
#include "fd_pass.h"
#include "list.h"

#include <string.h>

LIST_LAYOUT(Ioasid__V1__ListLeasesResponse, leases, struct ioasid_leases);

/* Leases are opened and adopted by a connection, not in a lease. */
static int lease_begin(struct call *call, struct ioasid_client *client,
		       const struct ioasid_scope *scope, struct ioasid_error **ret_error)
{
	int r = call_begin(call, client, scope, 0, ret_error);

	call->scope.lease = (char *)"";
	return r;
}

static int lease_open(struct call *call, const char *name, uint32_t linger_seconds,
		      const uint8_t *ticket, uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE])
{
	static const struct method method =
		METHOD("Broker", "OpenLease", open_lease_response, true);
	Ioasid__V1__OpenLeaseRequest request = IOASID__V1__OPEN_LEASE_REQUEST__INIT;
	Ioasid__V1__OpenLeaseResponse *response;
	int r;

	request.scope = call_scope(call);
	request.name = text_or_empty(name);
	request.linger_seconds = linger_seconds;
	if (ticket) {
		request.watch_ticket.len = IOASID_TICKET_SIZE;
		request.watch_ticket.data = (uint8_t *)ticket;
	}
	r = call_unary(call, &method, &request.base, &response);
	if (r < 0)
		return r;
	if (response->secret.len != IOASID_LEASE_SECRET_SIZE)
		return error_bad_answer(method.name, "its secret has not 32 bytes",
					call->ret_error);
	memcpy(ret_secret, response->secret.data, IOASID_LEASE_SECRET_SIZE);
	return 0;
}

int ioasid_lease_open(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *name, uint32_t linger_seconds, int pidfd,
		      uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE], struct ioasid_error **ret_error)
{
	struct ioasid_ticket ticket;
	CALL_AUTO struct call call;
	int r = lease_begin(&call, client, scope, ret_error);

	if (!r && pidfd >= 0)
		r = fd_pass_give(&call, IOASID_TICKET_PROCESS, pidfd, &ticket);
	return r < 0 ? r
		     : lease_open(&call, name, linger_seconds, pidfd >= 0 ? ticket.bytes : NULL,
				  ret_secret);
}

int ioasid_lease_open_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			     const char *name, uint32_t linger_seconds,
			     const uint8_t ticket[IOASID_TICKET_SIZE],
			     uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE],
			     struct ioasid_error **ret_error)
{
	CALL_AUTO struct call call;
	int r = lease_begin(&call, client, scope, ret_error);

	if (!r && !ticket)
		r = call_invalid(&call, "ticket is NULL");
	return r < 0 ? r : lease_open(&call, name, linger_seconds, ticket, ret_secret);
}

int ioasid_lease_adopt(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *name, const uint8_t secret[IOASID_LEASE_SECRET_SIZE],
		       struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "AdoptLease", adopt_lease_response, true);
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
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_lease_close(struct ioasid_client *client, const struct ioasid_scope *scope,
		       struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "CloseLease", close_lease_response, true);
	Ioasid__V1__CloseLeaseRequest request = IOASID__V1__CLOSE_LEASE_REQUEST__INIT;
	Ioasid__V1__CloseLeaseResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_lease_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		      struct ioasid_leases **ret_leases, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListLeases", list_leases_response, false);
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
