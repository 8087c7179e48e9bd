/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_TRANSLATE_H
#define IOASID_BROKER_TRANSLATE_H

#include "server/broker/call.h"

/* SHIM_READ ...; 0: unspecified. */
uint32_t access_to_shim(Ioasid__V1__Access access);
void fault_fill(Ioasid__V1__Fault *ret_fault, const struct shim_fault *fault);
/* NULL: out of memory. */
Ioasid__V1__Fault *fault_describe(struct scratch *scratch, const struct shim_fault *fault);

int rpc_translate(struct broker_call *call);

#endif
