/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices whose lease has let them go while their last holder still has an fd of them.
 *
 * Their DMA is over, but a kernel binds a device to no other context before that fd is
 * closed.  So they stay what the API calls revoking: charged to the tenant that had them and
 * claimed by no one, until the shim says that they are free.
 *
 * Owns broker->held.  Invariants: a held device has no lease, no attachment and no shim
 * object, and its charge is its last tenant's; that of a context that a process had (delegation.h)
 * stays with the last of its devices.  The shim is asked on a worker, for all of
 * them at once, one round at a time; held_check is the round's own copy of the list.  State
 * thread, but for held_run().
 */
#include "server/broker/device_held.h"

#include "server/broker/delegation.h"
#include "server/broker/event.h"
#include "server/broker/journal.h"

#include <assert.h>

/* Between two rounds: a client that has ended lets go within milliseconds, or never. */
#define HELD_INTERVAL_US UINT64_C(100000)

static void held_expect(struct broker *broker)
{
	broker->held_at_us = broker_now(broker) + HELD_INTERVAL_US;
	broker_expect(broker, broker->held_at_us);
}

void device_hold(struct broker *broker, struct device *device)
{
	assert(!device->lease && !device->shim && !device->n_attachments);
	device->held = true;
	TAILQ_INSERT_TAIL(&broker->held, device, link);
	held_expect(broker);
}

static void device_free_at_last(struct broker *broker, struct device *device)
{
	struct tenant *tenant = device->charge.tenant;

	if (!broker->shutting_down)
		journal_drop_held(broker, device);
	TAILQ_REMOVE(&broker->held, device, link);
	device->held = false;
	device->not_free = false;
	device->revoking = false;
	device->fd_given = false;
	event_emit(broker, IOASID__V1__EVENT_TYPE__EVENT_TYPE_DEVICE_RELEASED, tenant, NULL, 0,
		   device->info->address, NULL);
	delegation_unref(device->delegation);
	device->delegation = NULL;
	charge_release(&device->charge);
}

static void held_run(struct op *op)
{
	struct broker *broker = CONTAINER_OF(op, struct broker, held_op);

	for (size_t i = 0; i < broker->n_held_check; i++) {
		struct device *d = broker->held_check[i];

		d->held_freed = shim_dev_is_free(broker->shim, d->info->address) == 0;
	}
}

static void held_complete(struct op *op)
{
	struct broker *broker = CONTAINER_OF(op, struct broker, held_op);

	broker->held_running = false;
	for (size_t i = 0; i < broker->n_held_check; i++)
		if (broker->held_check[i]->held_freed && broker->held_check[i]->held)
			device_free_at_last(broker, broker->held_check[i]);
	if (!TAILQ_EMPTY(&broker->held))
		held_expect(broker);
}

void devices_held_tick(struct broker *broker, uint64_t now_us, uint64_t *next_us)
{
	struct device *d;

	if (TAILQ_EMPTY(&broker->held) || broker->held_running)
		return;
	if (broker->held_at_us > now_us) {
		if (broker->held_at_us < *next_us)
			*next_us = broker->held_at_us;
		return;
	}
	broker->n_held_check = 0;
	TAILQ_FOREACH(d, &broker->held, link)
	broker->held_check[broker->n_held_check++] = d;
	broker->held_running = true;
	broker->held_op.run = held_run;
	broker->held_op.complete = held_complete;
	op_start(&broker->held_op, broker, broker, false);
}

void devices_held_forget(struct broker *broker)
{
	while (!TAILQ_EMPTY(&broker->held))
		device_free_at_last(broker, TAILQ_FIRST(&broker->held));
}
