/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_TICKET_H
#define IOASID_BROKER_TICKET_H

#include "server/broker/state.h"

#define TICKET_SIZE	   16
#define TICKET_LIFETIME_MS 10000

enum ticket_purpose {
	TICKET_MEMORY = 1,
	TICKET_PROCESS = 2,
	/* Taken, not given: no number of the API. */
	TICKET_DEVICE = 3,
	TICKET_DMA = 4,
	TICKET_CONTEXT = 5,
};

/*
 * A one-time right to pass an fd over the second connection (docs/fd-protocol.md); bound
 * to the principal (socket, uid), the lease and the purpose.
 */
struct ticket {
	RB_ENTRY(ticket) node; /* broker->tickets */
	LIST_ENTRY(ticket) of_lease;
	uint8_t bytes[TICKET_SIZE];
	enum ticket_purpose purpose;
	struct lease *lease;
	uid_t uid;
	char socket[64];
	uint64_t expires_us;
	int fd;			     /* -1: not given yet */
	struct device *device;	     /* TICKET_DEVICE */
	struct dma_service *service; /* TICKET_DMA: only that process takes it */
	pid_t pid;
	struct charge charge;	 /* broker_bytes */
	struct charge fd_charge; /* kept_fds, once given */
};

enum ticket_error {
	TICKET_E_TOO_MANY = 1,
};

/* TICKET_E_TOO_MANY; -ENOMEM; -errno of getrandom. Quota: *ret_refused is true. */
int ticket_new(struct lease *lease, const struct broker_session *session,
	       enum ticket_purpose purpose, bool *ret_refused, struct quota_refusal *ret_refusal,
	       struct ticket **ret_ticket);
/* The outcome of a ticket_new() that failed. */
int refuse_ticket(struct broker_call *call, int error, bool refused,
		  const struct quota_refusal *refusal);
/*
 * One by which the call's client takes an fd: charged to its tenant, and the ticket's from now on.
 * An outcome; on failure the fd is the caller's still.
 */
int ticket_with_fd(struct broker_call *call, enum ticket_purpose purpose, int fd,
		   struct ticket **ret_ticket);
/* The lease's own ticket of that purpose, unexpired; NULL: none. */
struct ticket *ticket_find(struct lease *lease, const ProtobufCBinaryData *bytes,
			   enum ticket_purpose purpose);
/* Closes an fd that waits in it.  NULL-safe. */
void ticket_free(struct ticket *ticket);
/* All of a lease. */
void tickets_drop(struct lease *lease);
/* Those that would give out an fd of the device. */
void tickets_drop_device(struct lease *lease, const struct device *device);
/* The one that would give out the other end of the service. */
void tickets_drop_service(struct lease *lease, const struct dma_service *service);
/* Those whose time is over; lowers *next_us to the next one's time. */
void tickets_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us);

#endif
