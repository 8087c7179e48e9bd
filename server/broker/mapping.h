/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_MAPPING_H
#define IOASID_BROKER_MAPPING_H

#include "server/broker/call.h"

/* NULL: there is none. */
struct mapping *mapping_first(struct ioasid *ioasid);
/* The mapping that holds this IOVA; NULL: none. */
struct mapping *mapping_at(struct ioasid *ioasid, uint64_t iova);
/* The first that begins at or after `iova`, and the one after; NULL: none. */
struct mapping *mapping_not_before(struct ioasid *ioasid, uint64_t iova);
struct mapping *mapping_next(struct ioasid *ioasid, struct mapping *mapping);
/* Takes it out of the IOASID and gives its charges back; the shim no longer has it. */
void mapping_free(struct ioasid *ioasid, struct mapping *mapping);

/* Into the IOASID's tree; its charges are the caller's. */
void mapping_insert(struct ioasid *ioasid, struct mapping *mapping);
/*
 * The whole pages of its file that [offset, offset + length) of a memory pins; false: none
 * (memory NULL), or the range is not inside of it.
 */
bool mapping_pins(const struct memory *memory, uint64_t offset, uint64_t length,
		  uint64_t *ret_start, uint64_t *ret_end);

int rpc_map(struct broker_call *call);
int rpc_unmap(struct broker_call *call);
int rpc_list_mappings(struct broker_call *call);

#endif
