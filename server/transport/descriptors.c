/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors of what the server serves, embedded as protoc wrote them, and a search in
 * them.  The search walks the wire format in place: no index, no allocation, nothing kept,
 * some ten microseconds for a request that tools make once.
 *
 * The bytes are our own build's, yet the walker checks every length: a broken one ends the
 * walk.  Any thread.
 */
#include "services.h"

#include <stdio.h>
#include <string.h>

/* Two FileDescriptorSets one after the other are one set. */
__asm__(".section .rodata\n"
	".globl ioasid_descriptor_set\n"
	".hidden ioasid_descriptor_set\n"
	"ioasid_descriptor_set:\n"
	".incbin \"" DESCRIPTORS_API "\"\n"
	".incbin \"" DESCRIPTORS_SERVICES "\"\n"
	".globl ioasid_descriptor_set_end\n"
	".hidden ioasid_descriptor_set_end\n"
	"ioasid_descriptor_set_end:\n"
	".byte 0\n"
	".previous\n");
extern const uint8_t ioasid_descriptor_set[];
extern const uint8_t ioasid_descriptor_set_end[];

/* Field numbers of google/protobuf/descriptor.proto. */
enum {
	SET_FILE = 1,
	FILE_NAME = 1,
	FILE_PACKAGE = 2,
	FILE_MESSAGE = 4,
	FILE_ENUM = 5,
	FILE_SERVICE = 6,
	ANY_NAME = 1,
	MESSAGE_FIELD = 2,
	MESSAGE_NESTED = 3,
	MESSAGE_ENUM = 4,
	ENUM_VALUE = 2,
	SERVICE_METHOD = 2,
};

struct bytes {
	const uint8_t *at;
	const uint8_t *end;
};

static bool read_varint(struct bytes *bytes, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && bytes->at < bytes->end; shift += 7) {
		uint8_t byte = *bytes->at++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

/* The next field that is a string or a message; others are skipped.  false: the end. */
static bool read_field(struct bytes *bytes, uint32_t *ret_number, struct bytes *ret_content)
{
	uint64_t key, value;

	while (bytes->at < bytes->end && read_varint(bytes, &key)) {
		switch (key & 7) {
		case 0:
			if (!read_varint(bytes, &value))
				return false;
			continue;
		case 1:
		case 5:
			value = (key & 7) == 1 ? 8 : 4;
			break;
		case 2:
			if (!read_varint(bytes, &value))
				return false;
			break;
		default:
			return false;
		}
		if (value > (uint64_t)(bytes->end - bytes->at))
			return false;
		ret_content->at = bytes->at;
		bytes->at += value;
		ret_content->end = bytes->at;
		*ret_number = key >> 3;
		if ((key & 7) == 2)
			return true;
	}
	return false;
}

/* The n-th field of a number. */
static bool find_field(struct bytes message, uint32_t number, size_t n, struct bytes *ret_content)
{
	uint32_t found;

	while (read_field(&message, &found, ret_content))
		if (found == number && !n--)
			return true;
	return false;
}

/* Does *symbol begin with this name, at its end or before a dot?  Steps over both. */
static bool step_over(const char **symbol, struct bytes name)
{
	size_t n = name.end - name.at;

	if (!n || strncmp(*symbol, (const char *)name.at, n) ||
	    ((*symbol)[n] && (*symbol)[n] != '.'))
		return false;
	*symbol += n + ((*symbol)[n] == '.');
	return true;
}

/* A leaf with this very name among the fields of a number. */
static bool has_leaf(struct bytes message, uint32_t number, const char *symbol)
{
	struct bytes child, name;

	for (size_t i = 0; find_field(message, number, i, &child); i++) {
		const char *rest = symbol;

		if (find_field(child, ANY_NAME, 0, &name) && step_over(&rest, name) && !*rest)
			return true;
	}
	return false;
}

/* depth: descriptors nest as deep as a .proto does. */
static bool message_has(struct bytes message, const char *symbol, unsigned depth)
{
	struct bytes name, child;

	if (!depth || !find_field(message, ANY_NAME, 0, &name) || !step_over(&symbol, name))
		return false;
	if (!*symbol || has_leaf(message, MESSAGE_FIELD, symbol) ||
	    has_leaf(message, MESSAGE_ENUM, symbol))
		return true;
	for (size_t i = 0; find_field(message, MESSAGE_NESTED, i, &child); i++)
		if (message_has(child, symbol, depth - 1))
			return true;
	return false;
}

static bool file_has(struct bytes file, const char *symbol)
{
	struct bytes package, child, name;

	if (find_field(file, FILE_PACKAGE, 0, &package) && !step_over(&symbol, package))
		return false;
	if (!*symbol)
		return false;
	for (size_t i = 0; find_field(file, FILE_MESSAGE, i, &child); i++)
		if (message_has(child, symbol, 16))
			return true;
	if (has_leaf(file, FILE_ENUM, symbol))
		return true;
	/* The values of an enumeration are names beside it, not below it. */
	for (size_t i = 0; find_field(file, FILE_ENUM, i, &child); i++)
		if (has_leaf(child, ENUM_VALUE, symbol))
			return true;
	for (size_t i = 0; find_field(file, FILE_SERVICE, i, &child); i++) {
		const char *rest = symbol;

		if (find_field(child, ANY_NAME, 0, &name) && step_over(&rest, name) &&
		    (!*rest || has_leaf(child, SERVICE_METHOD, rest)))
			return true;
	}
	return false;
}

static struct bytes whole_set(void)
{
	return (struct bytes){ioasid_descriptor_set, ioasid_descriptor_set_end};
}

static void give(struct bytes file, const uint8_t **ret_file, size_t *ret_size)
{
	*ret_file = file.at;
	*ret_size = file.end - file.at;
}

bool descriptors_find_symbol(const char *symbol, const uint8_t **ret_file, size_t *ret_size)
{
	struct bytes file;

	for (size_t i = 0; find_field(whole_set(), SET_FILE, i, &file); i++) {
		if (!file_has(file, symbol))
			continue;
		give(file, ret_file, ret_size);
		return true;
	}
	return false;
}

bool descriptors_find_file(const char *name, const uint8_t **ret_file, size_t *ret_size)
{
	struct bytes file, file_name;
	size_t n = strlen(name);

	for (size_t i = 0; find_field(whole_set(), SET_FILE, i, &file); i++) {
		if (!find_field(file, FILE_NAME, 0, &file_name) ||
		    (size_t)(file_name.end - file_name.at) != n || memcmp(file_name.at, name, n))
			continue;
		give(file, ret_file, ret_size);
		return true;
	}
	return false;
}

bool descriptors_service_at(size_t index, char *ret_name, size_t size)
{
	struct bytes file, service, name, package;

	for (size_t i = 0; find_field(whole_set(), SET_FILE, i, &file); i++) {
		for (size_t k = 0; find_field(file, FILE_SERVICE, k, &service); k++) {
			if (index--)
				continue;
			if (!find_field(service, ANY_NAME, 0, &name) ||
			    !find_field(file, FILE_PACKAGE, 0, &package))
				return false;
			snprintf(ret_name, size, "%.*s.%.*s", (int)(package.end - package.at),
				 (const char *)package.at, (int)(name.end - name.at),
				 (const char *)name.at);
			return true;
		}
	}
	return false;
}
