/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The lease file is any bytes: what the parser takes has the shape that it promises, what it
 * refuses has a problem that people can read, and changes nothing.
 */

#include "lib/lease_file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_text(const char *text, size_t room)
{
	size_t n = strnlen(text, room);

	must(n && n < room);
	for (size_t i = 0; i < n; i++)
		must(isprint((unsigned char)text[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lease_file file, before;
	const unsigned char *bytes = (const void *)&file, *bytes_before = (const void *)&before;
	char problem[LEASE_FILE_PROBLEM_SIZE] = "";

	memset(&file, 0x5a, sizeof(file));
	before = file;
	if (lease_file_parse((const char *)data, size, problem, &file)) {
		must(!memcmp(bytes, bytes_before, sizeof(file)));
		check_text(problem, sizeof(problem));
		return 0;
	}
	must(!*problem && size <= LEASE_FILE_MAX);
	check_text(file.tenant, sizeof(file.tenant));
	check_text(file.lease, sizeof(file.lease));
	must(file.n_devices <= LEASE_FILE_DEVICES_MAX);
	for (size_t i = 0; i < file.n_devices; i++)
		must(lease_file_is_device(file.devices[i]));
	return 0;
}
