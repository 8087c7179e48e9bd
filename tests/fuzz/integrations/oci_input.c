/* SPDX-License-Identifier: Apache-2.0 */
/* See oci_input.h. */
#include "oci_input.h"

#include "integrations/json/utf8.h"
#include "integrations/oci/ask.h"
#include "integrations/oci/fail.h"
#include "tests/fuzz/policy/fuzz_check.h"

#include <ctype.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int oci_input_fd(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("input", MFD_CLOEXEC);
	CHECK(fd >= 0 && !ftruncate(fd, 0));
	CHECK(pwrite(fd, data, size, 0) == (ssize_t)size);
	CHECK(!lseek(fd, 0, SEEK_SET));
	return fd;
}

void oci_check_message(void)
{
	const char *message = hook_message();
	char *plain;

	CHECK(message && *message);
	plain = strdup(message);
	CHECK(plain);
	utf8_make_plain(plain);
	CHECK(!strcmp(plain, message));
	free(plain);
	hook_forgive();
}

void oci_check_silence(void)
{
	CHECK(!hook_message());
}

void oci_check_untouched(const void *object, const void *before, size_t size)
{
	CHECK(!memcmp(object, before, size));
}

static void check_device(const char *device)
{
	size_t n = strnlen(device, ASK_DEVICE_SIZE);

	CHECK(n >= 12 && n < ASK_DEVICE_SIZE);
	for (size_t i = 0; i < n; i++)
		CHECK(strchr("0123456789abcdef:.", device[i]));
	CHECK(device[n - 2] == '.' && device[n - 1] <= '7');
}

void oci_check_ask(const struct ask *ask)
{
	size_t n = strnlen(ask->tenant, ASK_TENANT_SIZE);

	CHECK(n < ASK_TENANT_SIZE && !n == !ask->tenant_from);
	for (size_t i = 0; i < n; i++)
		CHECK(isalnum((unsigned char)ask->tenant[i]) || strchr("-_./", ask->tenant[i]));
	/* Nothing that a path could climb by. */
	CHECK(ask->tenant[0] != '/' && !strstr(ask->tenant, "/.") && !strstr(ask->tenant, "//"));
	CHECK(ask->n_devices <= ASK_DEVICES_MAX);
	for (size_t i = 0; i < ask->n_devices; i++) {
		check_device(ask->devices[i]);
		for (size_t j = 0; j < i; j++)
			CHECK(strcmp(ask->devices[i], ask->devices[j]));
	}
}
