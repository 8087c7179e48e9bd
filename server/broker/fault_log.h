/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_FAULT_LOG_H
#define IOASID_BROKER_FAULT_LOG_H

/* The newest faults of a lease, numbered, and who watches them; see fault_log.c. */

#include "server/broker/fault.h"

#define FAULT_LOG_SIZE 256

/* One fault as it is told. */
struct fault_event {
	uint64_t ioasid; /* 0: none */
	const struct device *device;
	uint32_t pasid; /* SHIM_NO_PASID: none */
	struct shim_fault what;
	uint64_t cookie; /* 0: a record */
	uint32_t group;
	bool last;
	uint64_t deadline_us;
};

void fault_log_free(struct fault_log *log);
/* Appends and offers to the watchers; nothing where nobody has ever watched. */
void fault_log_append(struct lease *lease, const struct fault_event *event);
/* n events that the kernel did not keep. */
void fault_log_lose(struct lease *lease, uint64_t n);
/* Handler of WatchFaults. */
int fault_log_watch(struct broker_call *call, uint64_t ioasid, uint64_t after_sequence);
void fault_log_each_charge(const struct fault_log *log,
			   void (*each)(void *data, const struct charge *charge), void *data);

#endif
