/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_MESSAGE_H
#define TESTS_MESSAGE_H

/*
 * Messages by reflection: an answer whose every field holds a value that names the field,
 * and the text of a request.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 1000 * index + field number; index 0 for fields that are not repeated. */
#define VALUE(field, index) (1000u * (index) + (field))

/*
 * Every field set: numbers VALUE(), enumerations 1, text the field's name and index
 * ("devices1"), bytes that text too, booleans true when the field number is odd (or even,
 * if !odd); repeated fields have two elements.  Of a oneof the first.  Freed by
 * protobuf_c_message_free_unpacked().
 */
ProtobufCMessage *message_fill(const ProtobufCMessageDescriptor *descriptor, bool odd);

/*
 * "scope{lease:vm} ioasid:7 entries{iova:4096 choose}": fields that are set, in the order
 * of the definition.
 */
void message_print(const ProtobufCMessage *message, char *text, size_t size);

#endif
