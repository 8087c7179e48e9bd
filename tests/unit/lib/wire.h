/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_WIRE_H
#define TESTS_WIRE_H

/*
 * Protocol buffers by hand, from the wire format's rules alone: what the library decodes is
 * not made by the code that decodes it.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire {
	uint8_t bytes[8192];
	size_t n;
};

static inline void wire_varint(struct wire *wire, uint64_t value)
{
	while (value >= 0x80) {
		wire->bytes[wire->n++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	wire->bytes[wire->n++] = (uint8_t)value;
}

static inline void wire_int(struct wire *wire, unsigned field, uint64_t value)
{
	wire_varint(wire, field << 3);
	wire_varint(wire, value);
}

static inline void wire_bytes(struct wire *wire, unsigned field, const void *bytes, size_t n)
{
	wire_varint(wire, field << 3 | 2);
	wire_varint(wire, n);
	memcpy(wire->bytes + wire->n, bytes, n);
	wire->n += n;
}

static inline void wire_text(struct wire *wire, unsigned field, const char *text)
{
	wire_bytes(wire, field, text, strlen(text));
}

static inline void wire_message(struct wire *wire, unsigned field, const struct wire *message)
{
	wire_bytes(wire, field, message->bytes, message->n);
}

/* google.rpc.Status {code = 1, message = 2, details = 3} */
static inline void wire_status(struct wire *wire, int code, const char *message)
{
	wire->n = 0;
	wire_int(wire, 1, (uint64_t)code);
	wire_text(wire, 2, message);
}

/* google.protobuf.Any {type_url = 1, value = 2} in Status.details */
static inline void wire_detail(struct wire *wire, const char *type, const struct wire *value)
{
	static const char prefix[] = "type.googleapis.com/";
	struct wire any = {.n = 0};
	char url[128];

	strcpy(url, prefix);
	strcat(url, type);
	wire_text(&any, 1, url);
	wire_message(&any, 2, value);
	wire_message(wire, 3, &any);
}

/* google.rpc.ErrorInfo {reason = 1, domain = 2, metadata = 3 (map)} */
static inline void wire_error_info(struct wire *wire, const char *reason, const char *key,
				   const char *value)
{
	struct wire info = {.n = 0}, entry = {.n = 0};

	wire_text(&info, 1, reason);
	wire_text(&info, 2, "ioasid");
	if (key) {
		wire_text(&entry, 1, key);
		wire_text(&entry, 2, value);
		wire_message(&info, 3, &entry);
	}
	wire_detail(wire, "google.rpc.ErrorInfo", &info);
}

#endif
