/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets of the fd-passing protocol.  Owns the tickets and the fds that wait in them; the
 * protocol itself is the transport's.  State thread only.
 */
#include "server/broker/ticket.h"

#include "server/broker/call.h"
#include "server/broker/dma_service.h"
#include "server/broker/memory_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int ticket_compare(const struct ticket *a, const struct ticket *b)
{
	return memcmp(a->bytes, b->bytes, TICKET_SIZE);
}

TREE_GENERATE(ticket_tree, ticket, node, ticket_compare)

int ticket_new(struct lease *lease, const struct broker_session *session,
	       enum ticket_purpose purpose, bool *ret_refused, struct quota_refusal *ret_refusal,
	       struct ticket **ret_ticket)
{
	struct quota_amount amount = {QUOTA_BROKER_BYTES, sizeof(struct ticket)};
	struct broker *broker = lease->broker;
	struct ticket *t;
	int r;

	*ret_refused = false;
	if (lease->n_tickets == LEASE_TICKETS_MAX)
		return TICKET_E_TOO_MANY;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	if (getrandom(t->bytes, TICKET_SIZE, 0) != TICKET_SIZE) {
		free(t);
		return -EIO;
	}
	r = charge_take(&t->charge, lease->tenant, &amount, 1, ret_refusal);
	if (r) {
		free(t);
		*ret_refused = true;
		return r;
	}
	t->purpose = purpose;
	t->lease = lease;
	t->uid = session->peer.uid;
	t->pid = session->peer.pid;
	memcpy(t->socket, session->socket, sizeof(t->socket));
	t->expires_us = broker_now(broker) + TICKET_LIFETIME_MS * UINT64_C(1000);
	t->fd = -1;
	broker_expect(broker, t->expires_us);
	RB_INSERT(ticket_tree, &broker->tickets, t);
	LIST_INSERT_HEAD(&lease->tickets, t, of_lease);
	lease->n_tickets++;
	*ret_ticket = t;
	return 0;
}

int refuse_ticket(struct broker_call *call, int error, bool refused,
		  const struct quota_refusal *refusal)
{
	if (refused)
		return refuse_charge(call, error, refusal);
	if (error == TICKET_E_TOO_MANY)
		return refuse_precondition(call, OUTCOME_WRONG_STATE, "tickets",
					   "%d are open in this lease; use one or let one expire",
					   LEASE_TICKETS_MAX);
	if (error == -ENOMEM)
		return refuse_no_memory(call);
	return refuse(call, OUTCOME_INTERNAL, "no random bytes: %s", strerror(-error));
}

int ticket_with_fd(struct broker_call *call, enum ticket_purpose purpose, int fd,
		   struct ticket **ret_ticket)
{
	const struct quota_amount amount = {QUOTA_KEPT_FDS, 1};
	struct quota_refusal refusal;
	struct ticket *ticket;
	bool refused;
	int r = ticket_new(call->lease, call->session, purpose, &refused, &refusal, &ticket);

	if (r)
		return refuse_ticket(call, r, refused, &refusal);
	r = charge_take(&ticket->fd_charge, call->tenant, &amount, 1, &refusal);
	if (r) {
		ticket_free(ticket);
		return refuse_charge(call, r, &refusal);
	}
	ticket->fd = fd;
	*ret_ticket = ticket;
	return OUTCOME_OK;
}

void ticket_free(struct ticket *ticket)
{
	if (!ticket)
		return;
	RB_REMOVE(ticket_tree, &ticket->lease->broker->tickets, ticket);
	LIST_REMOVE(ticket, of_lease);
	ticket->lease->n_tickets--;
	if (ticket->fd >= 0)
		close(ticket->fd);
	charge_release(&ticket->fd_charge);
	charge_release(&ticket->charge);
	explicit_bzero(ticket->bytes, sizeof(ticket->bytes));
	free(ticket);
}

void tickets_drop(struct lease *lease)
{
	while (!LIST_EMPTY(&lease->tickets))
		ticket_free(LIST_FIRST(&lease->tickets));
}

void tickets_drop_device(struct lease *lease, const struct device *device)
{
	struct ticket *t, *next;

	for (t = LIST_FIRST(&lease->tickets); t; t = next) {
		next = LIST_NEXT(t, of_lease);
		if (t->device == device)
			ticket_free(t);
	}
}

void tickets_drop_service(struct lease *lease, const struct dma_service *service)
{
	struct ticket *t, *next;

	for (t = LIST_FIRST(&lease->tickets); t; t = next) {
		next = LIST_NEXT(t, of_lease);
		if (t->service == service)
			ticket_free(t);
	}
}

void tickets_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us)
{
	struct ticket *t, *next;

	TREE_FOREACH_SAFE(t, ticket_tree, &broker->tickets, next)
	{
		if (t->expires_us <= now_us)
			ticket_free(t);
		else if (t->expires_us < *next_us)
			*next_us = t->expires_us;
	}
}

static struct ticket *ticket_lookup(struct broker *broker, const uint8_t *bytes)
{
	struct ticket find, *t;

	memcpy(find.bytes, bytes, TICKET_SIZE);
	t = RB_FIND(ticket_tree, &broker->tickets, &find);
	return t && t->expires_us > broker_now(broker) ? t : NULL;
}

struct ticket *ticket_find(struct lease *lease, const ProtobufCBinaryData *bytes,
			   enum ticket_purpose purpose)
{
	struct ticket *t;

	if (!lease || bytes->len != TICKET_SIZE)
		return NULL;
	t = ticket_lookup(lease->broker, bytes->data);
	return t && t->lease == lease && t->purpose == purpose ? t : NULL;
}

/* ---- the second connection ---- */

static bool ticket_suits(const struct ticket *t, int fd)
{
	return t->purpose == TICKET_MEMORY ? memory_file_is_memfd(fd) : memory_file_is_pidfd(fd);
}

/* Its fd goes from the broker to the client. */
static bool is_taken(const struct ticket *t)
{
	return t->purpose == TICKET_DEVICE || t->purpose == TICKET_DMA ||
	       t->purpose == TICKET_CONTEXT;
}

int broker_ticket_give(struct broker *broker, const struct broker_peer *peer,
		       const uint8_t ticket[static 16], int fd)
{
	struct quota_amount amount = {QUOTA_KEPT_FDS, 1};
	struct quota_refusal refusal;
	struct ticket *t;

	if (broker->shutting_down)
		return BROKER_TICKET_UNAVAILABLE;
	t = ticket_lookup(broker, ticket);
	if (!t || is_taken(t) || t->fd >= 0 || t->uid != peer->uid ||
	    strcmp(t->socket, peer->socket))
		return BROKER_TICKET_REFUSED;
	if (!ticket_suits(t, fd)) {
		ticket_free(t);
		return BROKER_TICKET_UNSUITABLE;
	}
	if (charge_take(&t->fd_charge, t->lease->tenant, &amount, 1, &refusal))
		return BROKER_TICKET_BUSY;
	t->fd = fd;
	return BROKER_TICKET_OK;
}

int broker_ticket_take(struct broker *broker, const struct broker_peer *peer,
		       const uint8_t ticket[static 16], int *ret_fd)
{
	struct ticket *t;

	if (broker->shutting_down)
		return BROKER_TICKET_UNAVAILABLE;
	t = ticket_lookup(broker, ticket);
	if (!t || !is_taken(t) || t->uid != peer->uid || strcmp(t->socket, peer->socket))
		return BROKER_TICKET_REFUSED;
	if (t->purpose == TICKET_DMA && t->pid != peer->pid)
		return BROKER_TICKET_REFUSED;
	*ret_fd = t->fd;
	t->fd = -1;
	if (t->service)
		dma_service_taken(t->service);
	ticket_free(t);
	return BROKER_TICKET_OK;
}
