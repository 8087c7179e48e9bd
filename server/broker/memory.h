/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_MEMORY_H
#define IOASID_BROKER_MEMORY_H

#include "server/broker/call.h"

/* Visible in its lease; NULL: none. */
struct memory *memory_find(struct lease *lease, uint64_t id);
/* A mapping refers to it no longer; destroys it if it was unregistered. */
void memory_put(struct memory *memory);
/* Invisible; destroyed when no mapping refers to it. */
void memory_retire(struct memory *memory);

int rpc_open_ticket(struct broker_call *call);
int rpc_register_memory(struct broker_call *call);
int rpc_unregister_memory(struct broker_call *call);
int rpc_list_memory(struct broker_call *call);
/* Fills a message in the scratch; NULL: out of memory. */
Ioasid__V1__Memory *memory_describe(struct scratch *scratch, const struct memory *memory);

#endif
