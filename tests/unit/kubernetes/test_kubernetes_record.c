/* SPDX-License-Identifier: Apache-2.0 */
/* The state file: what is read is what was written, and what is damaged is refused as a whole. */
#include "record.h"

#include "file.h"
#include "message.h"
#include "podresources.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test-kubernetes-record.XXXXXX";
static int dir_fd = -1;

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	dir_fd = open(folder, O_RDONLY | O_DIRECTORY);
	return dir_fd < 0;
}

static int drop_folder(void **state)
{
	unlinkat(dir_fd, "state.json", 0);
	close(dir_fd);
	return rmdir(folder);
}

static struct record *make(bool with_secret)
{
	char *ids[] = {(char *)"b", (char *)"a"};
	struct record *record = record_new();

	record->resource = strdup("ioasid.io/nic");
	record->tenant = strdup("acme/web");
	record->socket = strdup("/run/\"s\".sock");
	record->namespace = strdup("web");
	record->pod = strdup("pod");
	record->container = strdup("main");
	strcpy(record->lease, "k8s.web.pod.0");
	strcpy(record->key, "0123");
	record->max_ioasids = 3;
	record->linger_seconds = 77;
	assert_int_equal(record_set_ids(record, ids, 2), 0);
	assert_int_equal(record_add_device(record, "0000:01:00.0"), 0);
	record->has_secret = with_secret;
	for (int i = 0; i < IOASID_LEASE_SECRET_SIZE; i++)
		record->secret[i] = 0xf0 + i;
	record->closing = !with_secret;
	return record;
}

static void test_round(void **state)
{
	struct record_table table = {.state_fd = dir_fd}, again;
	char problem[CONFIG_PROBLEM_SIZE];
	const struct record *r;
	struct stat st;

	records_add(&table, make(true));
	records_add(&table, make(false));
	assert_int_equal(records_save(&table), 0);
	assert_int_equal(fstatat(dir_fd, "state.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(records_load(dir_fd, &again, problem), 0);
	/* The order is the table's, turned round, and nothing depends on it. */
	r = again.first;
	assert_true(r->has_secret);
	assert_memory_equal(r->secret, table.first->next->secret, IOASID_LEASE_SECRET_SIZE);
	assert_false(r->closing);
	assert_int_equal(r->n_ids, 2);
	assert_string_equal(r->ids[0], "a");
	assert_true(record_has_id(r, "b"));
	assert_false(record_has_id(r, "c"));
	assert_int_equal(r->n_devices, 1);
	assert_string_equal(r->devices[0], "0000:01:00.0");
	assert_string_equal(r->socket, "/run/\"s\".sock");
	assert_true(r->max_ioasids == 3);
	assert_true(r->linger_seconds == 77);
	assert_true(r->max_registered_bytes == UINT64_MAX);
	assert_string_equal(r->lease, "k8s.web.pod.0");
	assert_string_equal(r->key, "0123");
	r = r->next;
	assert_false(r->has_secret);
	assert_true(r->closing);
	assert_null(r->next);
	records_clear(&table);
	records_clear(&again);
}

static void test_damage(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"{\"version\":2,\"bindings\":[]}",
		"{\"version\":1}",
		"{\"version\":1,\"bindings\":[{}]}",
		"{\"version\":1,\"bindings\":[1]}",
		"{\"version\":1,\"bindings\":[],\"bindings\":[]}",
		"{\"version\":1,\"bindings\":[]} x",
	};
	struct record_table table = {.state_fd = dir_fd}, untouched = {.state_fd = 77};
	char problem[CONFIG_PROBLEM_SIZE], *text, *at;
	size_t length;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(file_replace(dir_fd, "state.json", 0600, bad[i], strlen(bad[i])),
				 0);
		assert_int_equal(records_load(dir_fd, &untouched, problem), RECORD_E_INVALID);
		assert_int_equal(untouched.state_fd, 77);
	}
	/* Every key of a record is needed: each in turn has another name. */
	records_add(&table, make(true));
	assert_int_equal(records_save(&table), 0);
	assert_int_equal(file_read(dir_fd, "state.json", 1 << 20, &text, &length), 0);
	at = strstr(text, "bindings") + strlen("bindings") + 1;
	while ((at = strstr(at, "\":"))) {
		char was = at[-1];

		at[-1] = '~';
		assert_int_equal(file_replace(dir_fd, "state.json", 0600, text, length), 0);
		if (was == 't' && !memcmp(at - 6, "secre", 5)) {
			/* Without a secret it is a lease that was asked for. */
			struct record_table asked;

			assert_int_equal(records_load(dir_fd, &asked, problem), 0);
			assert_false(asked.first->has_secret);
			records_clear(&asked);
		} else if (was == 's' && !memcmp(at - 14, "linger_second", 13)) {
			/* Nor did every version write how long a lease lasts. */
			struct record_table old;

			assert_int_equal(records_load(dir_fd, &old, problem), 0);
			assert_true(old.first->linger_seconds == RECORD_LINGER_SECONDS);
			records_clear(&old);
		} else {
			assert_int_equal(records_load(dir_fd, &untouched, problem),
					 RECORD_E_INVALID);
			assert_string_equal(problem, "bindings[0] is damaged");
		}
		at[-1] = was;
		at += 2;
	}
	free(text);
	records_clear(&table);
}

static void test_lease_text(void **state)
{
	struct record *record = make(true);
	char *text;

	assert_int_equal(record_lease_text(record, &text), 0);
	assert_string_equal(text,
			    "{\"version\":1,\"tenant\":\"acme/web\",\"lease\":\"k8s.web.pod.0\","
			    "\"secret\":\"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
			    "000102030405060708090a0b0c0d0e0f\",\"devices\":[\"0000:01:00.0\"]}\n");
	free(text);
	record_free(record);
}

static void test_messages(void **state)
{
	/* So many empty pods: two bytes each on the wire, a hundred in memory. */
	static uint8_t bytes[200000];
	ProtobufCMessage *message;

	for (size_t i = 0; i < sizeof(bytes); i += 2)
		bytes[i] = 1 << 3 | 2;
	assert_null(
		message_unpack(&v1__list_pod_resources_response__descriptor, bytes, sizeof(bytes)));
	message = message_unpack(&v1__list_pod_resources_response__descriptor, bytes, 40);
	assert_non_null(message);
	assert_int_equal(((V1__ListPodResourcesResponse *)message)->n_pod_resources, 20);
	message_free(message);
	message_free(NULL);
	assert_null(message_unpack(&v1__list_pod_resources_response__descriptor, bytes, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_lease_text),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
