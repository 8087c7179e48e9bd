/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_REFUSAL_H
#define IOASID_TRANSPORT_REFUSAL_H

/* The error details of what the transport itself refuses; the broker makes its own. */

#include <stddef.h>
#include <stdint.h>

#define REFUSAL_DETAILS_MAX 1024

/*
 * google.rpc.Status with one ErrorInfo {domain "ioasid", reason}, serialized.  Returns its
 * size; 0 if it does not fit.
 */
size_t refusal_details(int code, const char *reason, const char *message,
		       uint8_t ret_details[static REFUSAL_DETAILS_MAX]);

#endif
