/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_JOURNAL_H
#define IOASID_BROKER_JOURNAL_H

/*
 * Steps 8 and 10 of a request: what it is about to do, and what it did, into the registry.
 * Without a registry everything here does nothing.
 *
 * The rule for a request without result is its method's (docs/design/registry.md): what makes
 * something is undone, what gives something back is redone.  So a change that makes something
 * is one batch, together with the answer under its key and the end of the intent; what gives
 * back may be written piece by piece.
 */

#include "server/broker/call.h"
#include "server/broker/record.h"

/* The call's intent, empty; what it points to lives in the call's scratch. */
Ioasid__Registry__Intent *journal_intent(struct broker_call *call);
/* Names the devices in it.  An outcome. */
int journal_intent_devices(struct broker_call *call, struct device *const *devices, size_t n);
/*
 * Writes the intent; fills in its method and key.  result_bytes: most that the batch of
 * journal_result() takes beside the answer (RECORD_*_BOUND); call->response is as long as it
 * will be, save for `answer_growth` bytes.  Before the shim is called.  An outcome:
 * OUTCOME_OK or OUTCOME_REGISTRY_FULL.
 */
int journal_begin(struct broker_call *call, size_t result_bytes, size_t answer_growth);
/* As journal_begin() for a change without a call of the shim: only the room. */
int journal_reserve(struct broker_call *call, size_t result_bytes);
/* An intent that is redone holds the answer: call->response as it is now.  An outcome. */
int journal_promise(struct broker_call *call);
/* Unmap: n more mappings are gone; so many, of so many bytes, since it began. */
void journal_unmapped(struct broker_call *call, const struct ioasid *ioasid,
		      struct mapping *const *mappings, size_t n, uint64_t done_mappings,
		      uint64_t done_bytes);
/*
 * The request had its effect: batch (NULL: nothing more than is written already), the answer
 * under the call's key, the end of the intent.  call->response is complete.  Cannot fail.
 */
void journal_result(struct broker_call *call, Ioasid__Registry__Batch *batch);
/* The end of every call: what was begun and has no result is over; the room goes back. */
void journal_end(struct broker_call *call);

/* ---- changes of one object, at once ---- */

/* Room for the record of a new lease.  -ENOSPC. */
int journal_lease_room(struct lease *lease);
/* The lease as it is now. */
void journal_lease(struct lease *lease);
/* Its end, with everything in it. */
void journal_drop_lease(struct lease *lease);
void journal_memory(struct lease *lease, const struct memory *memory);
void journal_drop_memory(struct lease *lease, const struct memory *memory);
void journal_ioasid(struct lease *lease, const struct ioasid *ioasid);
void journal_drop_ioasid(struct lease *lease, const struct ioasid *ioasid);
void journal_vm(struct lease *lease, const struct vm *vm);
void journal_drop_vm(struct lease *lease, const struct vm *vm);
void journal_drop_attachment(struct lease *lease, const struct attachment *attachment);
void journal_device(struct lease *lease, const struct device *device);
void journal_drop_device(struct lease *lease, const struct device *device);
void journal_held(struct broker *broker, const struct device *device);
void journal_drop_held(struct broker *broker, const struct device *device);
void journal_tenant(struct broker *broker, const struct tenant *tenant);
/* Serial and event numbers below which nothing new is numbered. */
void journal_broker(struct broker *broker);

/* ---- for compact.c and restore.c ---- */

/* Appends to the log with room that there always is. */
void journal_append(struct broker *broker, uint64_t lease, Ioasid__Registry__Batch *batch);

#endif
