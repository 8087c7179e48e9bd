/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_MESSAGE_H
#define KUBERNETES_MESSAGE_H

/*
 * Protobuf messages of others.  Unpacking is bounded: a few bytes on the wire can ask for many
 * in memory.  Any thread.
 */

#include <protobuf-c/protobuf-c.h>

/* NULL: malformed, or more than a message of this size may come to. */
ProtobufCMessage *message_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes,
				 size_t length);
/* NULL-safe. */
void message_free(ProtobufCMessage *message);

#endif
