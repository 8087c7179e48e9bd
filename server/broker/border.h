/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_BORDER_H
#define IOASID_BROKER_BORDER_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

enum border_error {
	/* Not a message of this type: wire form, unknown field, text. */
	BORDER_E_MALFORMED = 1,
	/* A number that is no member of the enumeration. */
	BORDER_E_ENUM,
};

struct border_problem {
	char field[128]; /* "entries[3].granularity"; "" : the message as a whole */
	char message[128];
};

/*
 * Checks the bytes of a message before they are decoded: wire types, known fields only,
 * text that is UTF-8 without NUL (a C string would end there), enum members.
 */
int border_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t length,
		 struct border_problem *ret_problem);

#endif
