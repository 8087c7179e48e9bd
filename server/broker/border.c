/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The border: what a request's bytes must satisfy before protobuf-c decodes them.
 *
 * protobuf-c hands out C strings, so an embedded NUL would silently cut a name short; it
 * keeps invalid UTF-8 and drops unknown fields, so a client that asks for something this
 * server does not know would get something else.  All three are refused here, on the raw
 * bytes.  Pure; depth is bounded by the types, of which none is recursive.
 */
#include "server/broker/border.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX  8
#define FIELDS_MAX 32
/* No array of any request may be longer; most methods allow less. */
#define ELEMENTS_MAX 4096

struct walk {
	struct {
		const char *name;
		int index; /* -1: not repeated */
	} path[DEPTH_MAX];
	unsigned depth;
	struct border_problem *problem;
};

static int border_refuse(struct walk *w, int code, const char *message)
{
	struct border_problem *p = w->problem;
	size_t at = 0;

	p->field[0] = '\0';
	for (unsigned i = 0; i < w->depth && at < sizeof(p->field); i++) {
		at += (size_t)snprintf(p->field + at, sizeof(p->field) - at, "%s%s", i ? "." : "",
				       w->path[i].name);
		if (w->path[i].index >= 0 && at < sizeof(p->field))
			at += (size_t)snprintf(p->field + at, sizeof(p->field) - at, "[%d]",
					       w->path[i].index);
	}
	snprintf(p->message, sizeof(p->message), "%s", message);
	return code;
}

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool text_is_utf8(const uint8_t *s, size_t n)
{
	const uint8_t *end = s + n;

	while (s < end) {
		uint32_t c = *s++, least;
		unsigned more;

		if (c < 0x80)
			continue;
		if (c >= 0xc2 && c < 0xe0) {
			more = 1;
			least = 0x80;
			c &= 0x1f;
		} else if (c >= 0xe0 && c < 0xf0) {
			more = 2;
			least = 0x800;
			c &= 0x0f;
		} else if (c >= 0xf0 && c < 0xf5) {
			more = 3;
			least = 0x10000;
			c &= 0x07;
		} else {
			return false;
		}
		if ((size_t)(end - s) < more)
			return false;
		while (more--) {
			if ((*s & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*s++ & 0x3f);
		}
		if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
	}
	return true;
}

/* What the wire type of a field's elements must be. */
static unsigned wire_type(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return 2;
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 1;
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return 5;
	default:
		return 0;
	}
}

static int check_message(struct walk *w, const ProtobufCMessageDescriptor *descriptor,
			 const uint8_t *at, const uint8_t *end);

static int check_scalar(struct walk *w, const ProtobufCFieldDescriptor *field, uint64_t value)
{
	if (field->type != PROTOBUF_C_TYPE_ENUM)
		return 0;
	if (value > INT32_MAX || !protobuf_c_enum_descriptor_get_value(field->descriptor, value))
		return border_refuse(w, BORDER_E_ENUM, "not a member of the enumeration");
	return 0;
}

static int check_delimited(struct walk *w, const ProtobufCFieldDescriptor *field, const uint8_t *at,
			   const uint8_t *end)
{
	int r = 0;

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		if (memchr(at, '\0', end - at))
			return border_refuse(w, BORDER_E_MALFORMED, "text holds a NUL character");
		if (!text_is_utf8(at, end - at))
			return border_refuse(w, BORDER_E_MALFORMED, "text is not valid UTF-8");
		return 0;
	case PROTOBUF_C_TYPE_BYTES:
		return 0;
	case PROTOBUF_C_TYPE_MESSAGE:
		return check_message(w, field->descriptor, at, end);
	default:
		break;
	}
	/* A packed array; only varints are used by this API's requests. */
	if (field->label != PROTOBUF_C_LABEL_REPEATED || wire_type(field->type) != 0)
		return border_refuse(w, BORDER_E_MALFORMED, "wrong wire type");
	while (!r && at < end) {
		uint64_t value;

		if (!read_varint(&at, end, &value))
			return border_refuse(w, BORDER_E_MALFORMED, "truncated");
		r = check_scalar(w, field, value);
	}
	return r;
}

static int check_message(struct walk *w, const ProtobufCMessageDescriptor *descriptor,
			 const uint8_t *at, const uint8_t *end)
{
	int counts[FIELDS_MAX] = {0};

	while (at < end) {
		const ProtobufCFieldDescriptor *field;
		uint64_t tag, value;
		unsigned index;
		int r = 0;

		if (!read_varint(&at, end, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
			return border_refuse(w, BORDER_E_MALFORMED, "not a protobuf message");
		field = protobuf_c_message_descriptor_get_field(descriptor, tag >> 3);
		if (!field)
			return border_refuse(w, BORDER_E_MALFORMED,
					     "holds a field that this server does not know");
		index = field - descriptor->fields;
		if (w->depth == DEPTH_MAX || index >= FIELDS_MAX)
			return border_refuse(w, BORDER_E_MALFORMED, "nested too deeply");
		if (field->label == PROTOBUF_C_LABEL_REPEATED && counts[index] == ELEMENTS_MAX) {
			w->path[w->depth].name = field->name;
			w->path[w->depth].index = -1;
			w->depth++;
			return border_refuse(w, BORDER_E_MALFORMED, "more than 4096 elements");
		}
		w->path[w->depth].name = field->name;
		w->path[w->depth].index =
			field->label == PROTOBUF_C_LABEL_REPEATED ? counts[index]++ : -1;
		w->depth++;
		switch (tag & 7) {
		case 0:
			if (!read_varint(&at, end, &value))
				return border_refuse(w, BORDER_E_MALFORMED, "truncated");
			if (wire_type(field->type) != 0)
				return border_refuse(w, BORDER_E_MALFORMED, "wrong wire type");
			r = check_scalar(w, field, value);
			break;
		case 1:
		case 5:
			value = (tag & 7) == 1 ? 8 : 4;
			if ((size_t)(end - at) < value)
				return border_refuse(w, BORDER_E_MALFORMED, "truncated");
			if (wire_type(field->type) != (tag & 7))
				return border_refuse(w, BORDER_E_MALFORMED, "wrong wire type");
			at += value;
			break;
		case 2:
			if (!read_varint(&at, end, &value) || value > (size_t)(end - at))
				return border_refuse(w, BORDER_E_MALFORMED, "truncated");
			r = check_delimited(w, field, at, at + value);
			at += value;
			break;
		default:
			return border_refuse(w, BORDER_E_MALFORMED, "not a protobuf message");
		}
		if (r)
			return r;
		w->depth--;
	}
	return 0;
}

int border_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t length,
		 struct border_problem *ret_problem)
{
	struct walk w = {.problem = ret_problem};

	return check_message(&w, descriptor, data, data + length);
}
