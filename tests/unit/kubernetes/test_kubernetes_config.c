/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration accepts, what it takes for granted, and how mistakes are told. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define NS  "\"namespaces\":{\"web\":{\"tenant\":\"acme/web\",\"socket\":\"/run/w.sock\"}}"
#define RES "\"resources\":[{\"name\":\"ioasid.io/ioas\",\"ioas\":8}]"

static struct config *good(const char *text)
{
	char problem[CONFIG_PROBLEM_SIZE];
	struct config *config = NULL;

	if (config_parse(text, strlen(text), &config, problem))
		fail_msg("%s: %s", text, problem);
	return config;
}

static void bad(const char *text, const char *expected)
{
	char problem[CONFIG_PROBLEM_SIZE];
	struct config *config = (void *)1;

	assert_int_equal(config_parse(text, strlen(text), &config, problem), CONFIG_E_INVALID);
	assert_ptr_equal(config, (void *)1);
	if (!strstr(problem, expected))
		fail_msg("%s: \"%s\" does not say \"%s\"", text, problem, expected);
}

static void test_defaults(void **state)
{
	struct config *c = good("{\"version\":1," NS "," RES "}\n");

	assert_string_equal(c->broker, "/run/ioasid/agents.sock");
	assert_string_equal(c->kubelet_dir, "/var/lib/kubelet/device-plugins");
	assert_string_equal(c->pod_resources, "/var/lib/kubelet/pod-resources/kubelet.sock");
	assert_string_equal(c->state_dir, "/run/ioasid-kubernetes");
	assert_null(c->cdi);
	assert_int_equal(c->poll_seconds, 5);
	assert_int_equal(c->linger_seconds, 86400);
	assert_string_equal(c->resources[0].suffix, "ioas");
	assert_string_equal(c->resources[0].container_path, "/run/ioasid");
	assert_true(c->resources[0].max_ioasids == 1);
	assert_true(c->resources[0].max_registered_bytes == UINT64_MAX);
	assert_string_equal(config_find_namespace(c, "web")->tenant, "acme/web");
	assert_null(config_find_namespace(c, "we"));
	assert_int_equal(config_find_resource(c, "ioasid.io/ioas"), 0);
	assert_int_equal(config_find_resource(c, "ioasid.io/nic"), -1);
	config_free(c);
}

static void test_devices(void **state)
{
	struct config *c =
		good("{\"version\":1,\"cdi\":\"ioasid.io/device\",\"poll_seconds\":1," NS
		     ",\"resources\":[{\"name\":\"ioasid.io/nic\",\"match\":{\"class\":\"02\"}},"
		     "{\"name\":\"ioasid.io/nvme\",\"match\":{\"vendor_device\":\"144d:*\"},"
		     "\"max_ioasids\":3,\"max_registered_bytes\":1099511627776},"
		     "{\"name\":\"ioasid.io/one\",\"match\":{\"addresses\":[\"0000:3b:00.0\"]}}]}");

	assert_string_equal(c->resources[0].container_path, "/run/ioasid");
	assert_string_equal(c->resources[1].container_path, "/run/ioasid-nvme");
	assert_true(c->resources[0].max_ioasids == UINT64_MAX);
	assert_true(c->resources[1].max_ioasids == 3);
	assert_true(c->resources[1].max_registered_bytes == UINT64_C(1) << 40);
	assert_string_equal(c->resources[2].addresses[0], "0000:3b:00.0");
	config_free(c);
}

static void test_mistakes(void **state)
{
#define RESOURCE(r) "{\"version\":1," NS ",\"resources\":[" r "]}"
	bad("", "the text ends where a value is expected");
	bad("[]", "expected an object");
	bad("{\"version\":1," NS "," RES "} x",
	    "line 1, column 130: more text after the JSON value");
	bad("{\"version\":2," NS "," RES "}", "version: must be 1 to 1");
	bad("{\"version\":\"1\"," NS "," RES "}", "version: expected a whole number");
	bad("{" NS "," RES "}", "version is missing");
	bad("{\"version\":1," RES "}", "namespaces is missing");
	bad("{\"version\":1," NS "}", "resources is missing");
	bad("{\"version\":1,\"brooker\":\"/x\"," NS "," RES "}", "brooker: unknown key");
	bad("{\"version\":1,\"broker\":\"x\"," NS "," RES "}",
	    "broker: \"x\": must be an absolute");
	bad("{\"version\":1,\"state_dir\":\"/a/../b\"," NS "," RES "}", "state_dir: ");
	bad("{\"version\":1,\"state_dir\":\"/a/\"," NS "," RES "}", "state_dir: ");
	bad("{\"version\":1,\"broker\":\"/a\\u0000b\"," NS "," RES "}", "a NUL in a string");
	bad("{\"version\":1,\"poll_seconds\":0," NS "," RES "}",
	    "poll_seconds: must be 1 to 86400");
	bad("{\"version\":1,\"poll_seconds\":-1," NS "," RES "}", "poll_seconds: must be");
	bad("{\"version\":1,\"linger_seconds\":0," NS "," RES "}",
	    "linger_seconds: must be 1 to 86400");
	bad("{\"version\":1,\"poll_seconds\":2,\"linger_seconds\":7," NS "," RES "}",
	    "linger_seconds: must be at least 4 times poll_seconds");
	config_free(good("{\"version\":1,\"poll_seconds\":2,\"linger_seconds\":8," NS "," RES "}"));
	bad("{\"version\":1,\"cdi\":\"vendor\"," NS "," RES "}", "cdi: ");
	bad("{\"version\":1,\"version\":1," NS "," RES "}", "key \"version\" is there twice");
	bad("{\"version\":1," NS "," NS "," RES "}", "key \"namespaces\" is there twice");
	bad("{\"version\":1,\"namespaces\":{\"web\":{},\"w\\u0065b\":{}}," RES "}",
	    "key \"web\" is there twice");
	bad("{\"version\":1,\"namespaces\":{\"Web\":{}}," RES "}", "namespaces.Web: no name");
	bad("{\"version\":1,\"namespaces\":{\"web\":{\"tenant\":\"a\"}}," RES "}",
	    "namespaces.web: socket is missing");
	bad("{\"version\":1,\"namespaces\":{\"web\":{\"tenant\":\"a//b\",\"socket\":\"/s\"}}," RES
	    "}",
	    "namespaces.web.tenant: ");
	bad("{\"version\":1,\"namespaces\":{\"web\":{\"uid\":1}}," RES "}",
	    "namespaces.web.uid: unknown key");
	bad("{\"version\":1," NS ",\"resources\":[]}", "resources: must have 1 to");
	bad(RESOURCE("{\"ioas\":1}"), "resources[0]: name is missing");
	bad(RESOURCE("{\"name\":\"nic\",\"ioas\":1}"), "resources[0].name: \"nic\"");
	bad(RESOURCE("{\"name\":\"a.b/c/d\",\"ioas\":1}"), "resources[0].name: ");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\"}"), "must have one of ioas and match");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"ioas\":1,\"match\":{\"class\":\"02\"}}"),
	    "must have one of ioas and match");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"ioas\":0}"), "resources[0].ioas: must be 1 to");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"match\":{\"class\":\"020\"}}"),
	    "resources[0].match.class: ");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"match\":{}}"), "must have one of class");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"match\":{\"addresses\":[\"3b:00.0\"]}}"),
	    "resources[0].match.addresses[0]: ");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"match\":{\"vendor_device\":\"8086\"}}"),
	    "match.vendor_device: ");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"ioas\":1},{\"name\":\"b.io/x\",\"ioas\":1}"),
	    "resources[1]: name: resources[0] ends with \"x\", too");
	bad(RESOURCE("{\"name\":\"ioasid.io/x\",\"ioas\":1},{\"name\":\"b.io/y\",\"ioas\":1,"
		     "\"container_path\":\"/run/ioasid/y\"}"),
	    "lie in each other");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
