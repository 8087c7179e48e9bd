/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation of the library fails once: each function gives a clean error, hands
 * nothing out, keeps nothing, and works the next time.  The allocator of the library's
 * objects is wrapped; gRPC's own is not, it aborts without memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_broker.h"
#include "ioasid.h"
#include "message.h"
#include "wire.h"

#include "ioasid.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of the calling thread: the number of the allocation that fails; 0: none. */
static _Thread_local unsigned fail_at;
static _Thread_local unsigned n_allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
char *__wrap_strdup(const char *text);

static bool fails(void)
{
	return ++n_allocations == fail_at;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

static _Atomic bool refuse;

static void handler(struct fake_call *call, const char *path, void *userdata)
{
	const ProtobufCServiceDescriptor *service = strstr(path, "/ioasid.v1.Admin/")
							    ? &ioasid__v1__admin__descriptor
							    : &ioasid__v1__broker__descriptor;
	const ProtobufCMethodDescriptor *method =
		protobuf_c_service_descriptor_get_method_by_name(service, strrchr(path, '/') + 1);
	struct wire wire, detail = {.n = 0}, inner = {.n = 0};
	ProtobufCMessage *response;
	ProtobufCFieldDescriptor const *field;

	if (refuse) {
		wire_status(&wire, 8, "no");
		wire_error_info(&wire, "QUOTA", "key", "value");
		wire_text(&inner, 1, "org");
		wire_message(&detail, 1, &inner);
		wire_message(&detail, 1, &inner);
		wire_detail(&wire, "google.rpc.QuotaFailure", &detail);
		fake_call_finish(call, 8, "no", wire.bytes, wire.n);
		return;
	}
	response = message_fill(method->output, true);
	field = protobuf_c_message_descriptor_get_field_by_name(method->output, "next_page_token");
	if (field)
		**(char **)((uint8_t *)response + field->offset) = 0;
	fake_call_reply(call, response);
	protobuf_c_message_free_unpacked(response, NULL);
}

static void no_fds(int connection, const uint8_t request[static 32], int fd, void *userdata)
{
}

static struct fake_broker *broker;
static struct ioasid_client *client;

/* One use of the library, freeing what it got. */
typedef int (*use_t)(struct ioasid_error **ret_error);

#define USE(name, type, call, free_function)                                                       \
	static int name(struct ioasid_error **ret_error)                                           \
	{                                                                                          \
		type *got = NULL;                                                                  \
		int r = call;                                                                      \
                                                                                                   \
		assert_int_equal(!r, !!got);                                                       \
		free_function(got);                                                                \
		return r;                                                                          \
	}

USE(use_status, struct ioasid_server_status, ioasid_server_status(client, NULL, &got, ret_error),
    ioasid_server_status_free)
USE(use_devices, struct ioasid_devices, ioasid_device_list(client, NULL, true, &got, ret_error),
    ioasid_devices_free)
USE(use_infos, struct ioasid_infos, ioasid_list(client, NULL, &got, ret_error), ioasid_infos_free)
USE(use_translation, struct ioasid_translation,
    ioasid_translate(client, NULL, 1, 2, IOASID_ACCESS_READ, &got, ret_error),
    ioasid_translation_free)
USE(use_objects, struct ioasid_objects, ioasid_object_list(client, NULL, NULL, &got, ret_error),
    ioasid_objects_free)
USE(use_check, struct ioasid_check_report, ioasid_check(client, NULL, &got, ret_error),
    ioasid_check_report_free)
USE(use_tenants, struct ioasid_tenants,
    ioasid_tenant_list(client, NULL, NULL, true, &got, ret_error), ioasid_tenants_free)
USE(use_quota, struct ioasid_quota, ioasid_quota_get(client, NULL, &got, ret_error),
    ioasid_quota_free)

static int use_alloc(struct ioasid_error **ret_error)
{
	static const enum ioasid_format formats[] = {IOASID_FORMAT_SV39, IOASID_FORMAT_SV48};
	const struct ioasid_alloc_request request = {.n_candidates = 2, .candidates = formats};
	struct ioasid_choice *choice = NULL;
	uint64_t id = 0;
	int r = ioasid_alloc(client, NULL, &request, &id, &choice, ret_error);

	assert_int_equal(!r, !!id);
	assert_int_equal(!r, !!choice);
	ioasid_choice_free(choice);
	return r;
}

static int use_map(struct ioasid_error **ret_error)
{
	/* More than fits in the first block of memory. */
	static const struct ioasid_map_entry entries[100];
	static const struct ioasid_range ranges[2];
	uint64_t bytes;

	return ioasid_map(client, NULL, 1, entries, 100, NULL, ret_error)
		       ?: ioasid_unmap(client, NULL, 1, ranges, 2, NULL, &bytes, ret_error);
}

static int use_invalidate(struct ioasid_error **ret_error)
{
	static const struct ioasid_invalidate_entry entries[3];
	size_t done;

	return ioasid_invalidate(client, NULL, 1, entries, 3, &done, NULL, ret_error);
}

static int use_limits(struct ioasid_error **ret_error)
{
	static const struct ioasid_resource_amount limits[] = {{"vms", 1}};

	return ioasid_limits_set(client, NULL, "t", limits, 1, NULL, ret_error);
}

static int use_connect(struct ioasid_error **ret_error)
{
	const struct ioasid_options options = {.lease = "l", .tenant = "t"};
	struct ioasid_client *other = NULL;
	int r = ioasid_connect(fake_broker_path(broker), &options, &other, ret_error);

	assert_int_equal(!r, !!other);
	ioasid_client_unref(other);
	return r;
}

static int use_watch(struct ioasid_error **ret_error)
{
	struct ioasid_watch *watch = NULL;
	struct ioasid_event *event = NULL;
	int r = ioasid_watch_events(client, NULL, NULL, &watch, ret_error);

	assert_int_equal(!r, !!watch);
	if (!r) {
		r = ioasid_watch_next_event(watch, IOASID_NO_TIMEOUT, &event, ret_error);
		ioasid_event_free(event);
	}
	/* The end, with a copy of its error. */
	if (!r)
		assert_int_equal(ioasid_watch_next_event(watch, IOASID_NO_TIMEOUT, &event, NULL),
				 -EPIPE);
	ioasid_watch_close(watch);
	return r;
}

static int use_cancel(struct ioasid_error **ret_error)
{
	struct ioasid_cancel *cancel = ioasid_cancel_new();

	if (!cancel) {
		*ret_error = NULL;
		return -ENOMEM;
	}
	ioasid_cancel_unref(cancel);
	return 0;
}

static void fail_each(use_t use, int want)
{
	unsigned n = 0;

	for (;;) {
		struct ioasid_error *error = NULL;
		bool hit;
		int r;

		n_allocations = 0;
		fail_at = ++n;
		r = use(&error);
		hit = n_allocations >= n;
		fail_at = 0;
		if (!hit) {
			/* Ran to its end with all the memory that it wanted. */
			assert_int_equal(r, want);
			ioasid_error_free(error);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		if (error)
			assert_string_equal(error->reason, "OUT_OF_MEMORY");
		else
			assert_true(use == use_cancel);
		ioasid_error_free(error);
		/* Nothing stuck. */
		error = NULL;
		assert_int_equal(use(&error), want);
		ioasid_error_free(error);
	}
	assert_true(n > 1);
}

static void test_answers(void **state)
{
	static const use_t uses[] = {
		use_status,  use_devices, use_infos,  use_translation, use_objects,
		use_tenants, use_quota,	  use_alloc,  use_map,	       use_invalidate,
		use_limits,  use_connect, use_cancel, use_watch,       use_check,
	};

	refuse = false;
	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
		fail_each(uses[i], 0);
}

static void test_refusals(void **state)
{
	static const use_t uses[] = {use_status, use_devices, use_map};

	refuse = true;
	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
		fail_each(uses[i], -EDQUOT);
}

static int setup(void **state)
{
	broker = fake_broker_new(handler, no_fds, NULL);
	return ioasid_connect(fake_broker_path(broker), NULL, &client, NULL);
}

static int teardown(void **state)
{
	ioasid_client_unref(client);
	fake_broker_free(broker);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
