/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_AMOUNTS_H
#define LIBIOASID_AMOUNTS_H

/* Amounts of resources, for requests that ask about quotas or set limits. */

#include "call.h"

int amounts_fill(struct call *call, const char *name, const struct ioasid_resource_amount *amounts,
		 size_t n, Ioasid__V1__ResourceAmount ***ret_messages);

#endif
