/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_CONVERT_H
#define LIBIOASID_CONVERT_H

/*
 * Messages that occur in answers of several families, as public structs.  Each fills one
 * zeroed struct; text points into the message.  The signature is list_item_t's.
 */

#include "result.h"

void convert_device(struct result *result, const void *message, void *ret_device);
void convert_memory(struct result *result, const void *message, void *ret_memory);
void convert_vm(struct result *result, const void *message, void *ret_vm);
void convert_choice(struct result *result, const void *message, void *ret_choice);
void convert_info(struct result *result, const void *message, void *ret_info);
void convert_attachment(struct result *result, const void *message, void *ret_attachment);
/* Resources that a lease may have a limit of its own of. */
#define LEASE_IOASIDS	       "ioasids"
#define LEASE_REGISTERED_BYTES "registered_bytes"
void convert_lease(struct result *result, const void *message, void *ret_lease);
void convert_usage(struct result *result, const void *message, void *ret_usage);
void convert_range(struct result *result, const void *message, void *ret_range);
void convert_fault(struct result *result, const void *message, void *ret_fault);

/* A struct of its own for a message that may be absent: NULL then. */
const void *convert_optional(struct result *result, const void *message, size_t size,
			     void (*convert)(struct result *, const void *, void *));

#endif
