/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handing fds over as part of a call: the tickets, the time that is left, and beginning
 * again when a broker has taken its tickets with it.
 */
#include "cancel.h"
#include "fd_pass.h"
#include "mend.h"
#include "socket.h"

#include <string.h>

#define PAUSE_FIRST_MS 5
#define PAUSE_MAX_MS   500

int fd_pass_ticket(struct call *call, const char *method, const ProtobufCBinaryData *bytes,
		   uint32_t lifetime_ms, struct ioasid_ticket *ret_ticket)
{
	if (bytes->len != IOASID_TICKET_SIZE)
		return error_bad_answer(method, "its ticket has not 16 bytes", call->ret_error);
	memcpy(ret_ticket->bytes, bytes->data, IOASID_TICKET_SIZE);
	ret_ticket->lifetime_ms = lifetime_ms;
	return 0;
}

static int open_ticket(struct call *call, enum ioasid_ticket_purpose purpose,
		       struct ioasid_ticket *ret_ticket)
{
	static const struct method method =
		METHOD("Broker", "OpenTicket", open_ticket_response, false, MAKES_LEASE);
	Ioasid__V1__OpenTicketRequest request = IOASID__V1__OPEN_TICKET_REQUEST__INIT;
	Ioasid__V1__OpenTicketResponse *response;
	int r;

	request.scope = call_scope(call);
	request.purpose = (Ioasid__V1__TicketPurpose)purpose;
	r = call_unary(call, &method, &request.base, &response);
	return r < 0 ? r
		     : fd_pass_ticket(call, method.name, &response->ticket, response->lifetime_ms,
				      ret_ticket);
}

/* A hand-over has its own time-out, within the call's. */
static int time_of_step(struct call *call, const char *name, uint32_t *ret_timeout_ms)
{
	uint32_t most = call->client->connect_timeout_ms;
	int left_ms = time_left_ms(call->deadline_us);

	if (!left_ms)
		return error_timed_out(name, call->ret_error);
	*ret_timeout_ms = left_ms < 0 || (uint32_t)left_ms > most ? most : (uint32_t)left_ms;
	return 0;
}

int fd_pass_give(struct call *call, enum ioasid_ticket_purpose purpose, int fd,
		 struct ioasid_ticket *ret_ticket)
{
	uint32_t timeout_ms = 0;
	int r;

	if (fd < 0)
		return call_invalid(call, "fd is negative");
	r = open_ticket(call, purpose, ret_ticket);
	if (!r)
		r = time_of_step(call, "give", &timeout_ms);
	return r < 0 ? r
		     : ioasid_ticket_give(call->client->path, ret_ticket->bytes, fd, timeout_ms,
					  call->ret_error);
}

int fd_pass_take(struct call *call, const uint8_t ticket[IOASID_TICKET_SIZE], int *ret_fd)
{
	uint32_t timeout_ms = 0;
	int r = time_of_step(call, "take", &timeout_ms);

	return r < 0 ? r
		     : ioasid_ticket_take(call->client->path, ticket, timeout_ms, ret_fd,
					  call->ret_error);
}

void fd_pass_begin(struct fd_pass_retry *retry, struct call *call)
{
	*retry = (struct fd_pass_retry){
		.call = call,
		.ret_error = call->ret_error,
		.pause_ms = PAUSE_FIRST_MS,
	};
	call->ret_error = &retry->error;
}

/* Did the broker end between the steps? */
static bool ticket_died(struct call *call, const struct ioasid_error *error)
{
	bool passing = !strcmp(error->method, "give") || !strcmp(error->method, "take");

	if (!strcmp(error->reason, "TICKET_REFUSED"))
		return mend_moved(call);
	/* Calls have waited already. */
	return passing && (ioasid_error_is_no_server(error) || call_is_trouble(error)) &&
	       call_waits_for_broker(call);
}

bool fd_pass_again(struct fd_pass_retry *retry, int r)
{
	struct call *call = retry->call;
	int left_ms = time_left_ms(call->deadline_us);

	if (!r || !ticket_died(call, retry->error) || cancel_fired(call->cancel))
		return false;
	if (left_ms >= 0 && (uint64_t)left_ms <= retry->pause_ms)
		return false;
	ioasid_error_free(retry->error);
	retry->error = NULL;
	call->interrupted = true;
	cancel_sleep(call->cancel, retry->pause_ms * 1000);
	retry->pause_ms = retry->pause_ms * 2 < PAUSE_MAX_MS ? retry->pause_ms * 2 : PAUSE_MAX_MS;
	return true;
}

int fd_pass_end(struct fd_pass_retry *retry, int r)
{
	retry->call->ret_error = retry->ret_error;
	if (retry->ret_error && r < 0)
		*retry->ret_error = retry->error;
	else
		ioasid_error_free(retry->error);
	return r;
}

int ioasid_ticket_open(struct ioasid_client *client, const struct ioasid_scope *scope,
		       enum ioasid_ticket_purpose purpose, struct ioasid_ticket *ret_ticket,
		       struct ioasid_error **ret_error)
{
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	return r < 0 ? r : open_ticket(&call, purpose, ret_ticket);
}
