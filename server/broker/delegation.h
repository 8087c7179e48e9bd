/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DELEGATION_H
#define IOASID_BROKER_DELEGATION_H

#include "server/broker/state.h"

/*
 * What a lease costs whose context is its holder's own, for as long as anything of it may be
 * in use: the lease's, and after it that of devices that somebody still has open.
 */
struct delegation {
	LIST_ENTRY(delegation) all; /* broker->delegations */
	struct broker *broker;
	unsigned refs;
	uint64_t lease; /* serial */
	uint64_t ioasids;
	uint64_t bytes;
	int holder; /* pidfd of the process that is ended with it; -1: none */
	bool given; /* that process has, or may have, a descriptor of it or of a device */
	/* Why its process was not ended; "": it was, or nothing had to be. */
	char problem[SHIM_REASON_MAX];
	struct charge charge; /* ioasids, and its own memory and fd */
	struct charge memory; /* of its process, by each of the three counts */
};

/* One reference, of the lease with that serial.  QUOTA_E_REFUSED, -ENOMEM. */
int delegation_new(struct tenant *tenant, uint64_t lease, uint64_t ioasids, uint64_t bytes,
		   struct quota_refusal *ret_refusal, struct delegation **ret_delegation);
/* NULL-safe, both. */
struct delegation *delegation_ref(struct delegation *delegation);
void delegation_unref(struct delegation *delegation);
/*
 * Ends its process, once that may have a descriptor of the context or of a device: on a worker, or
 * before the broker serves.  What becomes of it is in problem.  NULL-safe.
 */
void delegation_end_holder(struct delegation *delegation, const char *tenant);
/* One that a device of that lease holds; NULL: none. */
struct delegation *delegation_find(struct broker *broker, uint64_t lease);

typedef void (*delegation_charge_fn)(void *userdata, const struct charge *charge);
void delegations_each_charge(struct broker *broker, delegation_charge_fn fn, void *userdata);

/* OpenLease: may this tenant, and can this shim?  An outcome. */
int delegation_check(struct broker_call *call);
/* A lease that was just opened; pidfd is duplicated.  An outcome. */
int delegation_open(struct broker_call *call, struct lease *lease, int pidfd, uint64_t ioasids,
		    uint64_t bytes);
/* The lease's context was asked for and the shim refused it.  An outcome. */
int refuse_delegation(struct broker_call *call, int error, const char *reason);

/* A descriptor of the lease's context or of a device of it is about to be given. */
void delegation_note_given(struct lease *lease);

int rpc_get_context_fd(struct broker_call *call);

#endif
