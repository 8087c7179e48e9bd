/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_RESTORE_H
#define IOASID_BROKER_RESTORE_H

/* Shared by restore*.c; what others call is broker_restore() in broker.h. */

#include "server/broker/call.h"
#include "server/broker/state.h"

enum restore_error {
	/* The lease cannot be restored, restoring->reason says why; the others can. */
	RESTORE_E_LEASE = 1,
};

struct restoring {
	struct broker *broker;
	const struct registry_lease *from; /* the lease that is being restored */
	struct lease *lease;
	char reason[256];
	/* What its intent takes away: not restored, see restore_intent.c. */
	const Ioasid__Registry__Intent *intent;
	const struct broker_method *method;
	uint64_t n_mappings;
	uint64_t unmapped;
	uint64_t unmapped_bytes;
};

/* RESTORE_E_LEASE with these words. */
int restore_fail(struct restoring *restoring, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* From an unexpected errno, or an answer of the shim; what: "attach 0000:3b:00.0". */
int restore_shim_error(struct restoring *restoring, int error, const char *what,
		       const char *reason);

/* restore_objects.c: each 0, RESTORE_E_LEASE or -errno. */
int restore_devices(struct restoring *restoring);
int restore_memories(struct restoring *restoring);
int restore_vms(struct restoring *restoring);
int restore_ioasids(struct restoring *restoring);
int restore_mappings(struct restoring *restoring);
int restore_attachments(struct restoring *restoring);
int restore_keys(struct key_table **keys, struct tenant *payer,
		 const Ioasid__Registry__Key *const *records, size_t n);

/* restore_intent.c */
/* Before anything else of the lease: what kind of request it was. */
int restore_intent_find(struct restoring *restoring);
bool restore_intent_is(const struct restoring *restoring, const char *method);
/* Does the intent, an Unmap, take this mapping away? */
bool restore_intent_unmaps(const struct restoring *restoring, uint64_t ioasid, uint64_t iova);
bool restore_intent_names_device(const struct restoring *restoring, const char *address);
/* Everything is restored but what it takes away: undo, or redo. */
int restore_intent_settle(struct restoring *restoring);
/* Who was ending the lease gets its answer; the lease ends, whatever it is like. */
int restore_closer_key(struct restoring *restoring);

#endif
