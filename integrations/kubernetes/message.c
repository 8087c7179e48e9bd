/* SPDX-License-Identifier: Apache-2.0 */
/* The types here are not recursive, so a cap of memory is all that protobuf-c lacks. */
#include "message.h"

#include <stdlib.h>

/* Of memory for each byte of the message, and for any message. */
#define FACTOR 32
#define LEAST  4096
/* What malloc() takes for itself, about. */
#define OVERHEAD 16

static void *capped_alloc(void *data, size_t size)
{
	size_t *left = data;

	if (size + OVERHEAD > *left)
		return NULL;
	*left -= size + OVERHEAD;
	return malloc(size);
}

static void capped_free(void *data, void *pointer)
{
	free(pointer);
}

ProtobufCMessage *message_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes,
				 size_t length)
{
	size_t left = LEAST + FACTOR * length;
	ProtobufCAllocator allocator = {capped_alloc, capped_free, &left};

	return protobuf_c_message_unpack(type, &allocator, length, bytes);
}

void message_free(ProtobufCMessage *message)
{
	ProtobufCAllocator allocator = {capped_alloc, capped_free, NULL};

	if (message)
		protobuf_c_message_free_unpacked(message, &allocator);
}
