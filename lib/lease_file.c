/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of the lease file.
 *
 * It is written out here, and not left to json-c as in the command line client, because this
 * library is loaded into programs that are not ours: json-c would be one more soname that their
 * distribution may have in another version, for one object with five keys, of which every value is
 * of a narrow alphabet (so no text needs escapes but "\/", which some writers use).  Being strict
 * is also less work this way: json-c takes comments, NaN, a key twice and trailing commas.
 *
 * Invariants: nothing is read at or beyond end; whatever the text is, the work is linear in its
 * length times the number of devices.  A failure has set problem, and *ret_file is untouched.
 *
 * Threads: no state.
 */
#include "lease_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum key {
	KEY_VERSION,
	KEY_TENANT,
	KEY_LEASE,
	KEY_SECRET,
	KEY_DEVICES,
	N_KEYS,
};

static const char *const key_names[N_KEYS] = {"version", "tenant", "lease", "secret", "devices"};

struct reader {
	const char *at;
	const char *end;
	char *problem;
};

static int __attribute__((format(printf, 2, 3))) bad(struct reader *r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(r->problem, LEASE_FILE_PROBLEM_SIZE, format, ap);
	va_end(ap);
	return -EINVAL;
}

static void skip_blanks(struct reader *r)
{
	while (r->at < r->end &&
	       (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
		r->at++;
}

/* Blanks, then this character. */
static bool take(struct reader *r, char c)
{
	skip_blanks(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* A string of less than size bytes; what: how a problem calls it. */
static int take_text(struct reader *r, const char *what, char *ret_text, size_t size)
{
	size_t n = 0;

	if (!take(r, '"'))
		return bad(r, "%s: expected a string", what);
	for (;; r->at++) {
		unsigned char c;

		if (r->at == r->end)
			return bad(r, "%s: the string does not end", what);
		c = (unsigned char)*r->at;
		if (c == '"')
			break;
		if (c == '\\') {
			if (r->end - r->at < 2 || r->at[1] != '/')
				return bad(r, "%s: no escapes are expected here", what);
			c = (unsigned char)*++r->at;
		}
		if (c < 0x20 || c >= 0x7f)
			return bad(r, "%s: expected printable ASCII", what);
		if (n + 1 >= size)
			return bad(r, "%s: longer than %zu bytes", what, size - 1);
		ret_text[n++] = (char)c;
	}
	r->at++;
	ret_text[n] = 0;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int take_secret(struct reader *r, struct lease_file *file)
{
	char text[2 * IOASID_LEASE_SECRET_SIZE + 1];
	int e = take_text(r, "\"secret\"", text, sizeof(text));

	if (!e && strlen(text) != sizeof(text) - 1)
		e = bad(r, "\"secret\": expected %d hexadecimal digits, there are %zu",
			2 * IOASID_LEASE_SECRET_SIZE, strlen(text));
	for (size_t i = 0; !e && i < IOASID_LEASE_SECRET_SIZE; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			e = bad(r, "\"secret\": expected hexadecimal digits only");
		else
			file->secret[i] = (uint8_t)(high << 4 | low);
	}
	explicit_bzero(text, sizeof(text));
	return e;
}

static int take_lease(struct reader *r, struct lease_file *file)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	int e = take_text(r, "\"lease\"", file->lease, sizeof(file->lease));

	if (e)
		return e;
	if (!*file->lease || file->lease[strspn(file->lease, letters)])
		return bad(r, "\"lease\": expected 1 to %d of A-Z a-z 0-9 . _ -",
			   IOASID_LEASE_NAME_SIZE - 1);
	return 0;
}

static int take_tenant(struct reader *r, struct lease_file *file)
{
	int e = take_text(r, "\"tenant\"", file->tenant, sizeof(file->tenant));

	if (!e && !*file->tenant)
		e = bad(r, "\"tenant\": expected the path of a tenant, it is empty");
	return e;
}

static int take_version(struct reader *r)
{
	skip_blanks(r);
	if (r->at < r->end && *r->at == '1' &&
	    (r->end - r->at < 2 || !strchr("0123456789.eE", r->at[1]))) {
		r->at++;
		return 0;
	}
	return bad(r, "\"version\": expected 1, the only one that this library knows");
}

bool lease_file_is_device(const char *text)
{
	static const char shape[] = "hhhh:hh:hh.o";

	for (size_t i = 0; shape[i]; i++) {
		int digit = hex_digit(text[i]);

		if (shape[i] == 'h'   ? digit < 0
		    : shape[i] == 'o' ? digit < 0 || digit > 7
				      : text[i] != shape[i])
			return false;
	}
	return !text[sizeof(shape) - 1];
}

static int take_device(struct reader *r, struct lease_file *file)
{
	char what[32], *device;
	int e;

	snprintf(what, sizeof(what), "\"devices\"[%zu]", file->n_devices);
	if (file->n_devices == LEASE_FILE_DEVICES_MAX)
		return bad(r, "\"devices\": more than %d", LEASE_FILE_DEVICES_MAX);
	device = file->devices[file->n_devices];
	e = take_text(r, what, device, LEASE_FILE_DEVICE_SIZE);
	if (e)
		return e;
	if (!lease_file_is_device(device))
		return bad(r, "%s: expected the address of a device, such as 0000:3b:00.0", what);
	for (size_t i = 0; i < file->n_devices; i++)
		if (!strcasecmp(file->devices[i], device))
			return bad(r, "%s: the same as \"devices\"[%zu]", what, i);
	file->n_devices++;
	return 0;
}

static int take_devices(struct reader *r, struct lease_file *file)
{
	int e;

	if (!take(r, '['))
		return bad(r, "\"devices\": expected an array");
	if (take(r, ']'))
		return 0;
	do {
		e = take_device(r, file);
		if (e)
			return e;
	} while (take(r, ','));
	return take(r, ']') ? 0 : bad(r, "\"devices\": expected , or ] after an element");
}

static int take_value(struct reader *r, enum key key, struct lease_file *file)
{
	switch (key) {
	case KEY_VERSION:
		return take_version(r);
	case KEY_TENANT:
		return take_tenant(r, file);
	case KEY_LEASE:
		return take_lease(r, file);
	case KEY_SECRET:
		return take_secret(r, file);
	default:
		return take_devices(r, file);
	}
}

static int take_member(struct reader *r, unsigned *seen, struct lease_file *file)
{
	char name[32];
	enum key key = 0;
	int e = take_text(r, "a key", name, sizeof(name));

	if (e)
		return e;
	while (key < N_KEYS && strcmp(key_names[key], name))
		key++;
	if (key == N_KEYS)
		return bad(r, "\"%s\": no such key", name);
	if (*seen & 1u << key)
		return bad(r, "\"%s\": is there twice", name);
	*seen |= 1u << key;
	if (!take(r, ':'))
		return bad(r, "\"%s\": expected : after it", name);
	return take_value(r, key, file);
}

static int take_object(struct reader *r, struct lease_file *file)
{
	unsigned seen = 0;
	int e;

	if (!take(r, '{'))
		return bad(r, "expected a JSON object");
	do {
		e = take_member(r, &seen, file);
		if (e)
			return e;
	} while (take(r, ','));
	if (!take(r, '}'))
		return bad(r, "expected , or } after a value");
	skip_blanks(r);
	if (r->at != r->end)
		return bad(r, "something follows the object");
	for (enum key key = 0; key < N_KEYS; key++)
		if (!(seen & 1u << key))
			return bad(r, "\"%s\": is missing", key_names[key]);
	return 0;
}

int lease_file_parse(const char *text, size_t length, char problem[LEASE_FILE_PROBLEM_SIZE],
		     struct lease_file *ret_file)
{
	struct reader r = {.at = text, .end = text + length, .problem = problem};
	struct lease_file file = {.n_devices = 0};
	int e = length > LEASE_FILE_MAX ? bad(&r, "longer than %d bytes", LEASE_FILE_MAX)
					: take_object(&r, &file);

	if (!e)
		*ret_file = file;
	explicit_bzero(file.secret, sizeof(file.secret));
	return e;
}
