/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_FUZZ_OCI_INPUT_H
#define IOASID_TESTS_FUZZ_OCI_INPUT_H

/* What the targets of the OCI hook share: the input as a file, and what holds for any of it. */

#include <stddef.h>
#include <stdint.h>

struct ask;

/* The bytes in a file that is open, at its begin; the same fd each time. */
int oci_input_fd(const uint8_t *data, size_t size);
/* A failure has said something, in one line for people; forgets it. */
void oci_check_message(void);
/* Nothing has been said. */
void oci_check_silence(void);
/* An out-parameter of what failed is what it was before, byte for byte. */
void oci_check_untouched(const void *object, const void *before, size_t size);
/* Whatever it was made of, it has the shape that ask.h promises. */
void oci_check_ask(const struct ask *ask);

#endif
