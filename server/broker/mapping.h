/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_MAPPING_H
#define IOASID_BROKER_MAPPING_H

#include "server/broker/call.h"

/* NULL: there is none. */
struct mapping *mapping_first(struct ioasid *ioasid);
/* The mapping that holds this IOVA; NULL: none. */
struct mapping *mapping_at(struct ioasid *ioasid, uint64_t iova);
/* Takes it out of the IOASID and gives its charges back; the shim no longer has it. */
void mapping_free(struct ioasid *ioasid, struct mapping *mapping);

int rpc_map(struct broker_call *call);
int rpc_unmap(struct broker_call *call);
int rpc_list_mappings(struct broker_call *call);

#endif
