/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device nodes of config.json a container may have: those of VFIO only if they are of a
 * device that is asked for, whatever their names say.  In a sysfs of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "integrations/oci/ask.h"
#include "integrations/oci/bundle.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/nodes.h"

#include <json-c/json.h>

static char sysfs[] = "/tmp/nodes_test.XXXXXX";

/* As sysfs has them: "511:0" is vfio0 of 01:00.0. */
static const char *const links[][2] = {
	{"511:0", "../../devices/pci0000:00/0000:00:03.0/0000:01:00.0/vfio-dev/vfio0"},
	{"511:1", "../../devices/pci0000:00/0000:00:04.0/0000:02:00.0/vfio-dev/vfio1"},
	{"1:3", "../../devices/virtual/mem/null"},
};

static int make_sysfs(void **state)
{
	char path[256];

	if (!mkdtemp(sysfs))
		return -1;
	snprintf(path, sizeof(path), "%s/dev", sysfs);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/dev/char", sysfs);
	mkdir(path, 0700);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		snprintf(path, sizeof(path), "%s/dev/char/%s", sysfs, links[i][0]);
		if (symlink(links[i][1], path))
			return -1;
	}
	return 0;
}

static int remove_sysfs(void **state)
{
	char path[256];

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		snprintf(path, sizeof(path), "%s/dev/char/%s", sysfs, links[i][0]);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/dev/char", sysfs);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/dev", sysfs);
	rmdir(path);
	return rmdir(sysfs);
}

/* Asked for: 01:00.0. */
static int check(const char *text)
{
	struct bundle bundle = {.document = json_tokener_parse(text)};
	struct ask ask;
	int r;

	assert_non_null(bundle.document);
	ask_init(&ask);
	assert_int_equal(ask_add_tenant(&ask, "x", "acme"), 0);
	assert_int_equal(ask_add_devices(&ask, "x", "0000:01:00.0"), 0);
	r = nodes_check(&bundle, &ask, sysfs);
	json_object_put(bundle.document);
	return r;
}

#define NODE(path, type, major, minor)                                                             \
	"{\"path\": \"" path "\", \"type\": \"" type "\", \"major\": " major ", \"minor\": " minor \
	"}"
#define DEVICES(nodes) "{\"linux\": {\"devices\": [" nodes "]}}"
#define NULL_NODE      NODE("/dev/null", "c", "1", "3")
#define OWN	       NODE("/dev/vfio/devices/vfio0", "c", "511", "0")

static void test_allowed(void **state)
{
	static const char *const good[] = {
		"{}",
		"{\"linux\": {}}",
		DEVICES(""),
		DEVICES(OWN),
		DEVICES(NULL_NODE ", " OWN),
		/* Nothing of the host has this number. */
		DEVICES(NODE("/dev/vfio/devices/vfio9", "c", "511", "9")),
		/* A block device's number is another number. */
		DEVICES(NODE("/dev/sda", "b", "511", "1")),
		DEVICES("{\"path\": \"/dev/pipe\", \"type\": \"p\"}"),
		DEVICES("{\"path\": \"/dev/x\", \"type\": \"c\"}"),
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (check(good[i]))
			fail_msg("%s: %s", good[i], hook_message());
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{DEVICES(OWN ", " NODE("/dev/vfio/devices/vfio1", "c", "511", "1")),
		 "/dev/vfio/devices/vfio1 is the node of 0000:02:00.0, which the container does "
		 "not "
		 "ask for"},
		{DEVICES(NODE("/dev/innocent", "c", "511", "1")),
		 "/dev/innocent is the node of 0000:02:00.0"},
		{DEVICES(NODE("/dev/innocent", "u", "511", "1")),
		 "/dev/innocent is the node of 0000:02:00.0"},
		{DEVICES("1"), "config.json of the bundle: linux.devices: expected objects"},
		{DEVICES("{\"type\": \"c\", \"major\": 511, \"minor\": 1}"),
		 "config.json of the bundle: linux.devices: path: missing"},
		{DEVICES("{\"path\": \"/dev/x\", \"major\": 511, \"minor\": 1}"),
		 "config.json of the bundle: linux.devices: type: missing"},
		{"{\"linux\": []}", "config.json of the bundle: linux: expected"},
		{"{\"linux\": {\"devices\": {}}}",
		 "config.json of the bundle: linux: devices: expected"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(check(bad[i].text) < 0);
		if (strncmp(hook_message(), bad[i].message, strlen(bad[i].message)))
			fail_msg("expected \"%s\", not \"%s\"", bad[i].message, hook_message());
		hook_forgive();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, make_sysfs, remove_sysfs);
}
