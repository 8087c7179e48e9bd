/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_IOASID_H
#define IOASID_BROKER_IOASID_H

#include "server/broker/call.h"

/* Visible in its lease; NULL: none. */
struct ioasid *ioasid_find(struct lease *lease, uint64_t id);
/*
 * Invisible; queued for destruction (lease->retiring_ioasids) as soon as no attachment and
 * no child refers to it.
 */
void ioasid_retire(struct ioasid *ioasid);
/* An attachment or child is gone (its count is already lowered). */
void ioasid_put(struct ioasid *ioasid);
/* Destroys what is queued, mappings counted, until the budget is used up. */
void ioasids_reap_retiring(struct lease *lease, unsigned *budget);
/*
 * Destroys what is queued in the call's lease, in slices, then finishes the call with
 * OUTCOME_OK.  CALL_PENDING.
 */
int ioasids_finish_retiring(struct broker_call *call);
/*
 * The least that an IOASID is charged: CHARGE_AMOUNTS_MAX amounts at most.  Returns how many.
 */
size_t ioasid_amounts(enum shim_kind kind, size_t n_devices, size_t label_length,
		      struct quota_amount *ret_amounts);
/* The call's result is the IOASID as it is now; room is record_ioasid_bound(). */
void ioasid_result(struct broker_call *call, struct ioasid *ioasid);
/* In the call's scratch; NULL: out of memory. */
Ioasid__V1__Ioasid *ioasid_describe(struct scratch *scratch, const struct ioasid *ioasid);

int rpc_negotiate(struct broker_call *call);
int rpc_alloc(struct broker_call *call);
int rpc_free(struct broker_call *call);
int rpc_get_ioasid(struct broker_call *call);
int rpc_list_ioasids(struct broker_call *call);

#endif
