/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running shim work: at once when it is light, on one of the host's workers when it may
 * block; and completions that go on in later ticks, so that a tenant with a million
 * mappings does not hold the state thread while they are taken down.
 */
#include "server/broker/op.h"

#include "server/broker/fault_point.h"
#include "server/broker/state.h"

static void work_run(struct broker_work *work)
{
	struct op *op = CONTAINER_OF(work, struct op, work);

	op->run(op);
	FAULT_POINT_RAN(op);
}

static void work_done(struct broker_work *work)
{
	struct op *op = CONTAINER_OF(work, struct op, work);

	op->broker->n_ops--;
	op->complete(op);
}

void op_start(struct op *op, struct broker *broker, const void *key, bool heavy)
{
	op->broker = broker;
	broker->n_ops++;
	if (!heavy && !broker->shim->ops->blocks) {
		work_run(&op->work);
		work_done(&op->work);
		return;
	}
	op->work = (struct broker_work){.run = work_run, .done = work_done, .fairness_key = key};
	broker->host_ops->submit(broker->host, &op->work);
}

void op_later(struct op *op, struct broker *broker)
{
	op->broker = broker;
	broker->n_ops++;
	STAILQ_INSERT_TAIL(&broker->later, op, later);
}
