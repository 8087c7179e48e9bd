/* SPDX-License-Identifier: Apache-2.0 */
/* See message.h.  Only the field types that ioasid.proto has; others abort. */
#include "message.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_SINT32:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(int);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		abort();
	}
}

static void fill_element(const ProtobufCFieldDescriptor *field, unsigned index, bool odd, void *to)
{
	char text[64];

	snprintf(text, sizeof(text), field->label == PROTOBUF_C_LABEL_REPEATED ? "%s%u" : "%s",
		 field->name, index);
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT64:
		*(uint64_t *)to = VALUE(field->id, index);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_SINT32:
		*(uint32_t *)to = VALUE(field->id, index);
		break;
	case PROTOBUF_C_TYPE_ENUM:
		*(int *)to = 1;
		break;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)to = (field->id & 1) == odd;
		break;
	case PROTOBUF_C_TYPE_STRING:
		*(char **)to = strdup(text);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		((ProtobufCBinaryData *)to)->len = strlen(text);
		((ProtobufCBinaryData *)to)->data = (uint8_t *)strdup(text);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		*(ProtobufCMessage **)to = message_fill(field->descriptor, odd);
		break;
	default:
		abort();
	}
}

ProtobufCMessage *message_fill(const ProtobufCMessageDescriptor *descriptor, bool odd)
{
	ProtobufCMessage *message = calloc(1, descriptor->sizeof_message);

	protobuf_c_message_init(descriptor, message);
	for (unsigned i = 0; i < descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		uint8_t *member = (uint8_t *)message + field->offset;
		void *quantifier = (uint8_t *)message + field->quantifier_offset;

		if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
			if (*(uint32_t *)quantifier)
				continue;
			*(uint32_t *)quantifier = field->id;
		}
		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			uint8_t *array = calloc(2, element_size(field));

			*(size_t *)quantifier = 2;
			*(void **)member = array;
			for (unsigned j = 0; j < 2; j++)
				fill_element(field, j, odd, array + j * element_size(field));
		} else {
			fill_element(field, 0, odd, member);
		}
	}
	return message;
}

struct printer {
	char *text;
	size_t size;
	size_t n;
};

static void put(struct printer *printer, const char *format, const char *text)
{
	int n = snprintf(printer->text + printer->n, printer->size - printer->n, format, text);

	if (n < 0 || (size_t)n >= printer->size - printer->n)
		abort();
	printer->n += (size_t)n;
}

static void print_fields(struct printer *printer, const ProtobufCMessage *message);

static void print_element(struct printer *printer, const ProtobufCFieldDescriptor *field,
			  const void *from)
{
	char number[32];

	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT64:
		if (!*(const uint64_t *)from)
			return;
		snprintf(number, sizeof(number), ":%" PRIu64, *(const uint64_t *)from);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_ENUM:
		if (!*(const uint32_t *)from)
			return;
		snprintf(number, sizeof(number), ":%" PRIu32, *(const uint32_t *)from);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		if (!*(const protobuf_c_boolean *)from)
			return;
		strcpy(number, "");
		break;
	case PROTOBUF_C_TYPE_STRING:
		if (!**(const char *const *)from)
			return;
		put(printer, "%s:", field->name);
		put(printer, "%s ", *(const char *const *)from);
		return;
	case PROTOBUF_C_TYPE_BYTES: {
		const ProtobufCBinaryData *data = from;

		if (!data->len)
			return;
		put(printer, "%s:", field->name);
		if (data->len > 32) {
			snprintf(number, sizeof(number), "(%zu bytes) ", data->len);
			put(printer, "%s", number);
			return;
		}
		for (size_t i = 0; i < data->len; i++) {
			snprintf(number, sizeof(number), "%02x", data->data[i]);
			put(printer, "%s", number);
		}
		put(printer, "%s", " ");
		return;
	}
	case PROTOBUF_C_TYPE_MESSAGE:
		if (!*(ProtobufCMessage *const *)from)
			return;
		put(printer, "%s{", field->name);
		print_fields(printer, *(ProtobufCMessage *const *)from);
		put(printer, "%s", "} ");
		return;
	default:
		abort();
	}
	put(printer, "%s", field->name);
	put(printer, "%s ", number);
}

static void print_fields(struct printer *printer, const ProtobufCMessage *message)
{
	size_t before = printer->n;

	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const uint8_t *member = (const uint8_t *)message + field->offset;
		const void *quantifier = (const uint8_t *)message + field->quantifier_offset;

		if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
		    *(const uint32_t *)quantifier != field->id)
			continue;
		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			for (size_t j = 0; j < *(const size_t *)quantifier; j++)
				print_element(printer, field,
					      *(uint8_t *const *)member + j * element_size(field));
		else
			print_element(printer, field, member);
	}
	if (printer->n > before)
		printer->text[--printer->n] = 0;
}

void message_print(const ProtobufCMessage *message, char *text, size_t size)
{
	struct printer printer = {text, size, 0};

	text[0] = 0;
	print_fields(&printer, message);
}
