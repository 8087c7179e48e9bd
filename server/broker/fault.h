/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_FAULT_H
#define IOASID_BROKER_FAULT_H

#include "server/broker/call.h"

/* How long a page request waits for its answer, if nobody says otherwise. */
#define FAULT_TIMEOUT_US UINT64_C(5000000)

struct fault;

/* What a device met, and where. */
struct fault_where {
	struct device *device;
	uint32_t pasid;	       /* the guest's; SHIM_NO_PASID: none */
	struct ioasid *ioasid; /* NULL: attached to none */
	struct shim_fault what;
};

/* Called once, not for a call that has ended: it is still parked, and goes on or ends. */
typedef void (*fault_answered_fn)(struct broker_call *call, bool success);

void faults_init(struct lease *lease);
/* The lease ends: nobody waits any more, and nothing is read. */
void faults_end(struct lease *lease);
void faults_deinit(struct lease *lease);

/* An access that was blocked for good: a record. */
void fault_record(struct lease *lease, const struct fault_where *where);
/*
 * A page request of a simulated device, on behalf of call, which parks itself.  False: it is not
 * taken, as the tenant has too many or nobody watches, and the access ends as blocked.
 */
bool fault_request(struct broker_call *call, const struct fault_where *where,
		   fault_answered_fn answered, struct fault **ret_fault);
/* Its call ends: nobody needs the answer.  NULL-safe. */
void fault_forget(struct fault *fault);
/* The IOASID is freed, the attachment ends: what waits there is answered INVALID. */
void faults_drop_ioasid(const struct ioasid *ioasid);
void faults_drop_attachment(const struct attachment *attachment);
void faults_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us);

/* The context may have got a source of reports: it is watched from now on. */
void faults_watch_reports(struct lease *lease);
/* Nothing is in flight in the lease: takes what the kernel reported. */
void faults_read_reports(struct lease *lease);

/* What waiting faults and watchers are charged, one after the other. */
typedef void (*fault_charge_fn)(void *data, const struct charge *charge);
void faults_each_charge(const struct lease *lease, fault_charge_fn each, void *data);

int rpc_watch_faults(struct broker_call *call);
int rpc_respond_fault(struct broker_call *call);

#endif
