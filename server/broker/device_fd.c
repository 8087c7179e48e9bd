/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GetDeviceFd: a ticket with which the tenant takes an fd of its device, for registers and
 * interrupts.  The fd waits in the ticket, charged as kept_fds, until it is taken or the
 * ticket ends; a device that is given back takes its tickets with it.
 *
 * What such an fd can do is the shim's to bound (shim.h, dev_fd).  The broker notes that one
 * was made: fd_given, see device_held.c and Revoke.  State thread.
 */
#include "server/broker/device_fd.h"

#include "server/broker/delegation.h"
#include "server/broker/fault_point.h"
#include "server/broker/attachment.h"
#include "server/broker/journal.h"
#include "server/broker/ticket.h"

#include <string.h>
#include <unistd.h>

static int device_fd_refusal(struct broker_call *call, const struct device *device, int error)
{
	const char *reason = device->info->caps.feature_absent[SHIM_FEATURE_DEVICE_FD];

	if (error != SHIM_E_UNSUPPORTED)
		return refuse_shim(call, error, "get an fd of the device", NULL);
	return refuse(call, OUTCOME_UNIMPLEMENTED, "GetDeviceFd: %s",
		      reason[0] ? reason : "this shim has no device fds to give");
}

int rpc_get_device_fd(struct broker_call *call)
{
	const Ioasid__V1__GetDeviceFdRequest *q = (const void *)call->request;
	Ioasid__V1__GetDeviceFdResponse *p = call_response(call);
	struct ticket *ticket;
	struct device *d;
	int fd, r;

	r = attachment_device(call, q->device, &d);
	if (r)
		return r;
	if (p)
		p->ticket.data = scratch_alloc(&call->scratch, TICKET_SIZE);
	if (!p || !p->ticket.data)
		return refuse_no_memory(call);
	r = shim_dev_fd(d->shim, &fd);
	if (r)
		return device_fd_refusal(call, d, r);
	r = ticket_with_fd(call, TICKET_DEVICE, fd, &ticket);
	if (r) {
		close(fd);
		return r;
	}
	ticket->device = d;
	if (!d->fd_given) {
		d->fd_given = true;
		/* Before anybody can have it. */
		journal_device(call->lease, d);
		FAULT_POINT(call->method->path, "result");
	}
	if (call->lease->delegation)
		delegation_note_given(call->lease);
	memcpy(p->ticket.data, ticket->bytes, TICKET_SIZE);
	p->ticket.len = TICKET_SIZE;
	call->note = d->info->address;
	return OUTCOME_OK;
}
