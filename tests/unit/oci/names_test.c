/* SPDX-License-Identifier: Apache-2.0 */
/* Names: of leases, which a broker has to accept, and of CDI, which must tell all pairs apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cli/cdi.h"
#include "integrations/oci/names.h"

static void test_leases(void **state)
{
	char a[NAMES_LEASE_SIZE], b[NAMES_LEASE_SIZE], id[1024];

	names_lease("web-1", "/b/web-1", a);
	assert_int_equal(strncmp(a, "oci-web-1-", 10), 0);
	assert_int_equal(strlen(a), 10 + 16);
	names_lease("web-1", "/b/web-1", b);
	assert_string_equal(a, b);
	names_lease("web-1", "/b/web-2", b);
	assert_string_not_equal(a, b);
	/* Where one ends and the other begins counts. */
	names_lease("ab", "c", a);
	names_lease("a", "bc", b);
	assert_string_not_equal(a + 7, b + 6);
	names_lease("a/b c\xc3\xa4", "/b", a);
	assert_int_equal(strncmp(a, "oci-a_b_c__-", 12), 0);
	/* Of long ids the hash is of all. */
	memset(id, 'x', sizeof(id));
	id[1023] = '\0';
	names_lease(id, "/b", a);
	id[1022] = 'y';
	names_lease(id, "/b", b);
	assert_string_not_equal(a, b);
	assert_int_equal(strlen(a), 4 + 64 + 1 + 16);
}

static void test_keys(void **state)
{
	char a[NAMES_KEY_SIZE], b[NAMES_KEY_SIZE];

	names_key("oci-a", "open", 1, 2, a);
	names_key("oci-a", "open", 1, 2, b);
	assert_string_equal(a, b);
	/* Another process under the same number. */
	names_key("oci-a", "open", 1, 3, b);
	assert_string_not_equal(a, b);
	names_key("oci-a", "0000:01:00.0", 1, 2, b);
	assert_string_not_equal(a, b);
	assert_true(strlen(a) <= 64);
}

static void test_cdi(void **state)
{
	static const struct {
		const char *tenant, *device, *name;
	} rows[] = {
		{"acme/web", "0000:01:00.0", "acme-web-0000_01_00.0"},
		{"acme-web", "0000:01:00.0", "acme--web-0000_01_00.0"},
		{"acme/web-/x", "0000:01:00.0", "acme-web---x-0000_01_00.0"},
		{"acme/web--x", "0000:01:00.0", "acme-web----x-0000_01_00.0"},
		{"acme-", "0000:01:00.0", "acme---0000_01_00.0"},
		{"a/0000_01_00.0", "0000:02:00.0", "a-0000_01_00.0-0000_02_00.0"},
		{"a_b", "00000001:02:00.7", "a_b-00000001_02_00.7"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *name = cdi_name(rows[i].tenant, rows[i].device);

		assert_string_equal(name, rows[i].name);
		free(name);
	}
}

/* Every tenant of up to six of these letters that is one, each with a name of its own. */
static void test_cdi_tells_apart(void **state)
{
	static const char letters[] = "a-/";
	static char *names[1000];
	char tenant[7];
	size_t n = 0;

	for (unsigned code = 0; code < 4096; code++) {
		size_t length = 0;
		unsigned rest = code;

		for (; rest % 4; rest /= 4)
			tenant[length++] = letters[rest % 4 - 1];
		tenant[length] = '\0';
		if (rest || !length || tenant[0] != 'a' || tenant[length - 1] == '/' ||
		    strstr(tenant, "//") || strstr(tenant, "/-"))
			continue;
		names[n] = cdi_name(tenant, "0000:01:00.0");
		for (size_t i = 0; i < n; i++)
			assert_string_not_equal(names[i], names[n]);
		n++;
	}
	assert_true(n > 100);
	while (n--)
		free(names[n]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leases),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_cdi),
		cmocka_unit_test(test_cdi_tells_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
