/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program was given by its environment: the lease file, well and badly written, how it is
 * found and read, fds of devices; and adopting the lease, against a broker that is told what to
 * answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_broker.h"
#include "lib/lease_file.h"
#include "wire.h"

#include "ioasid.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET	"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define VERSION "\"version\":1"
#define TENANT	"\"tenant\":\"acme/web\""
#define LEASE	"\"lease\":\"exec-7\""
#define KEY	"\"secret\":\"" SECRET "\""
#define DEVICES "\"devices\":[\"0000:01:00.0\",\"0000:01:00.1\"]"
#define WHOLE	"{" VERSION "," TENANT "," LEASE "," KEY "," DEVICES "}"

/* ---- the parser ---- */

/* A copy that ends where the text does: a sanitizer sees each byte too many. */
static int parse(const char *text, size_t length, char problem[LEASE_FILE_PROBLEM_SIZE],
		 struct lease_file *ret_file)
{
	char *copy = malloc(length ?: 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, text, length);
	r = lease_file_parse(copy, length, problem, ret_file);
	free(copy);
	return r;
}

static void good(const char *text)
{
	char problem[LEASE_FILE_PROBLEM_SIZE] = "";
	struct lease_file file;

	if (parse(text, strlen(text), problem, &file))
		fail_msg("%s: %s", text, problem);
	assert_string_equal(file.tenant, "acme/web");
	assert_string_equal(file.lease, "exec-7");
	for (size_t i = 0; i < sizeof(file.secret); i++)
		assert_int_equal(file.secret[i], i % 16 * 0x11);
	assert_int_equal(file.n_devices, 2);
	assert_string_equal(file.devices[0], "0000:01:00.0");
	assert_string_equal(file.devices[1], "0000:01:00.1");
}

static void bad(const char *text, const char *expected)
{
	char problem[LEASE_FILE_PROBLEM_SIZE] = "";
	struct lease_file file, before;

	memset(&before, 0x5a, sizeof(before));
	file = before;
	assert_int_equal(parse(text, strlen(text), problem, &file), -EINVAL);
	if (!strstr(problem, expected))
		fail_msg("%s: \"%s\" and not \"%s\"", text, problem, expected);
	assert_memory_equal(&file, &before, sizeof(file));
	assert_null(strstr(problem, "00112233"));
}

static void test_parse(void **state)
{
	struct lease_file file;
	char problem[LEASE_FILE_PROBLEM_SIZE];

	good(WHOLE);
	good(" \t\r\n{ \"devices\" : [ \"0000:01:00.0\" ,\n\"0000:01:00.1\" ] , " KEY " ,\n" LEASE
	     " , " TENANT " , \"version\" : 1 } \n");
	good("{" VERSION ",\"tenant\":\"acme\\/web\"," LEASE "," KEY "," DEVICES "}");
	good("{" VERSION "," TENANT "," LEASE ",\"secret\":\""
	     "00112233445566778899AABBCCDDEEFF00112233445566778899AaBbCcDdEeFf\"," DEVICES "}");
	assert_int_equal(lease_file_parse(WHOLE, strlen(WHOLE), problem, &file), 0);

	/* Every beginning of it is refused. */
	for (size_t n = 0; n < strlen(WHOLE); n++)
		assert_int_equal(parse(WHOLE, n, problem, &file), -EINVAL);
	/* A NUL is a byte as any other. */
	assert_int_equal(parse(WHOLE "\0", strlen(WHOLE) + 1, problem, &file), -EINVAL);
	assert_int_equal(parse(WHOLE, 0, problem, &file), -EINVAL);
}

static void test_parse_no_devices(void **state)
{
	static const char text[] = "{" VERSION "," TENANT "," LEASE "," KEY ",\"devices\":[ ]}";
	char problem[LEASE_FILE_PROBLEM_SIZE];
	struct lease_file file;

	assert_int_equal(parse(text, strlen(text), problem, &file), 0);
	assert_int_equal(file.n_devices, 0);
}

static void test_parse_refuses(void **state)
{
	bad("[]", "expected a JSON object");
	bad("{}", "a key: expected a string");
	bad("{" TENANT "," LEASE "," KEY "," DEVICES "}", "\"version\": is missing");
	bad("{" VERSION "," LEASE "," KEY "," DEVICES "}", "\"tenant\": is missing");
	bad("{" VERSION "," TENANT "," KEY "," DEVICES "}", "\"lease\": is missing");
	bad("{" VERSION "," TENANT "," LEASE "," DEVICES "}", "\"secret\": is missing");
	bad("{" VERSION "," TENANT "," LEASE "," KEY "}", "\"devices\": is missing");
	bad("{" VERSION "," VERSION "}", "\"version\": is there twice");
	bad("{" VERSION ",\"owner\":1}", "\"owner\": no such key");
	bad("{\"version\":2}", "\"version\": expected 1");
	bad("{\"version\":10}", "\"version\": expected 1");
	bad("{\"version\":1.0}", "\"version\": expected 1");
	bad("{\"version\":\"1\"}", "\"version\": expected 1");
	bad("{\"version\" 1}", "\"version\": expected : after it");
	bad(WHOLE "x", "something follows");
	bad(WHOLE WHOLE, "something follows");
	bad("{" VERSION "," TENANT "," LEASE "," KEY "," DEVICES ",}", "a key: expected a string");
	bad("{" VERSION " " TENANT "}", "expected , or }");
	bad("{\"tenant\":\"\"}", "\"tenant\": expected the path");
	bad("{\"tenant\":7}", "\"tenant\": expected a string");
	bad("{\"tenant\":\"a\\u0062\"}", "\"tenant\": no escapes");
	bad("{\"tenant\":\"a\\", "\"tenant\": no escapes");
	bad("{\"tenant\":\"a\nb\"}", "\"tenant\": expected printable");
	bad("{\"tenant\":\"a\xc3\xa4\"}", "\"tenant\": expected printable");
	bad("{\"lease\":\"\"}", "\"lease\": expected 1 to 128");
	bad("{\"lease\":\"a b\"}", "\"lease\": expected 1 to 128");
	bad("{\"lease\":\"a/b\"}", "\"lease\": expected 1 to 128");
	bad("{\"secret\":\"0011\"}", "\"secret\": expected 64 hexadecimal digits, there are 4");
	bad("{\"secret\":\"" SECRET "0\"}", "\"secret\": longer than 64 bytes");
	bad("{\"secret\":\"g0112233445566778899aabbccddeeff"
	    "00112233445566778899aabbccddeeff\"}",
	    "\"secret\": expected hexadecimal digits only");
	bad("{\"devices\":{}}", "\"devices\": expected an array");
	bad("{\"devices\":[\"0000:01:00.0\" \"0000:01:00.1\"]}", "\"devices\": expected , or ]");
	bad("{\"devices\":[\"0000:01:00.0\",]}", "\"devices\"[1]: expected a string");
	bad("{\"devices\":[\"0000:01:00.0\",\"0000:01:00.8\"]}", "\"devices\"[1]: expected the");
	bad("{\"devices\":[\"01:00.0\"]}", "\"devices\"[0]: expected the address");
	bad("{\"devices\":[\"0000:01:00.01\"]}", "\"devices\"[0]: longer than 12");
	bad("{\"devices\":[\"0000:0A:00.0\",\"0000:0a:00.0\"]}", "\"devices\"[1]: the same as");
}

static void test_parse_bounds(void **state)
{
	char text[2 * LEASE_FILE_MAX], problem[LEASE_FILE_PROBLEM_SIZE];
	struct lease_file file;
	size_t n;

	for (unsigned devices = LEASE_FILE_DEVICES_MAX; devices <= LEASE_FILE_DEVICES_MAX + 1;
	     devices++) {
		n = (size_t)sprintf(text,
				    "{" VERSION "," TENANT "," LEASE "," KEY ",\"devices\":[");
		for (unsigned i = 0; i < devices; i++)
			n += (size_t)sprintf(text + n, "%s\"%04x:00:00.0\"", i ? "," : "", i);
		n += (size_t)sprintf(text + n, "]}");
		if (devices == LEASE_FILE_DEVICES_MAX) {
			assert_int_equal(parse(text, n, problem, &file), 0);
			assert_int_equal(file.n_devices, devices);
			assert_string_equal(file.devices[255], "00ff:00:00.0");
		} else {
			bad(text, "\"devices\": more than 256");
		}
	}
	n = (size_t)sprintf(text, "%s", WHOLE);
	memset(text + n, ' ', sizeof(text) - n);
	assert_int_equal(parse(text, LEASE_FILE_MAX, problem, &file), 0);
	assert_int_equal(parse(text, LEASE_FILE_MAX + 1, problem, &file), -EINVAL);
	assert_non_null(strstr(problem, "longer than 16384 bytes"));
	/* 128 letters are a name, and 255 a path. */
	n = (size_t)sprintf(text, "{\"lease\":\"%0128d\",\"tenant\":\"%0255d\",", 0, 0);
	sprintf(text + n, VERSION "," KEY "," DEVICES "}");
	assert_int_equal(parse(text, strlen(text), problem, &file), 0);
	sprintf(text, "{\"lease\":\"%0129d\"}", 0);
	bad(text, "\"lease\": longer than 128");
	sprintf(text, "{\"tenant\":\"%0256d\"}", 0);
	bad(text, "\"tenant\": longer than 255");
}

/* ---- finding and reading it ---- */

static int memfd_with(const char *text)
{
	int fd = memfd_create("lease", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static void set_fd(int fd)
{
	char value[32];

	snprintf(value, sizeof(value), "fd:%d", fd);
	setenv("IOASID_LEASE_FILE", value, 1);
}

static void refuses(int expected, const char *reason, const char *text)
{
	struct ioasid_given *given = (void *)&expected;
	struct ioasid_error *error = NULL;

	assert_int_equal(ioasid_given_read(&given, &error), expected);
	assert_ptr_equal(given, &expected);
	assert_non_null(error);
	assert_int_equal(error->error, expected);
	assert_string_equal(error->reason, reason);
	if (!strstr(error->message, text))
		fail_msg("\"%s\" and not \"%s\"", error->message, text);
	ioasid_error_free(error);
	assert_int_equal(ioasid_given_read(&given, NULL), expected);
}

static void reads(void)
{
	struct ioasid_given *given;

	assert_int_equal(ioasid_given_read(&given, NULL), 0);
	assert_string_equal(given->lease, "exec-7");
	assert_string_equal(given->tenant, "acme/web");
	assert_int_equal(given->n_devices, 2);
	assert_string_equal(given->devices[0], "0000:01:00.0");
	assert_string_equal(given->devices[1], "0000:01:00.1");
	ioasid_given_free(given);
}

static void test_read(void **state)
{
	char folder[] = "/tmp/ioasid-given-XXXXXX", path[64];
	int fd = memfd_with(WHOLE);

	unsetenv("IOASID_LEASE_FILE");
	refuses(-ENODATA, "NOTHING_GIVEN", "IOASID_LEASE_FILE: not set");
	setenv("IOASID_LEASE_FILE", "", 1);
	refuses(-ENODATA, "NOTHING_GIVEN", "IOASID_LEASE_FILE: not set");
	/* The name of a lease, as ioasidctl takes it, is no file in the working directory. */
	setenv("IOASID_LEASE_FILE", "exec-7", 1);
	refuses(-EINVAL, "LEASE_FILE", "IOASID_LEASE_FILE: expected an absolute path");
	for (size_t i = 0; i < 6; i++) {
		static const char *const values[] = {"fd:",   "fd:x",  "fd:-1",
						     "fd: 3", "fd:03", "fd:99999999999"};

		setenv("IOASID_LEASE_FILE", values[i], 1);
		refuses(-EINVAL, "LEASE_FILE", "IOASID_LEASE_FILE: expected a number after fd:");
	}
	setenv("IOASID_LEASE_FILE", "fd:1000000", 1);
	refuses(-EBADF, "LEASE_FILE", "fd:1000000: Bad file descriptor");

	/* From its beginning, as often as anybody likes, and the fd stays open. */
	set_fd(fd);
	reads();
	reads();
	assert_int_equal(lseek(fd, 0, SEEK_CUR), strlen(WHOLE));
	close(fd);

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/lease.json", folder);
	setenv("IOASID_LEASE_FILE", path, 1);
	refuses(-ENOENT, "LEASE_FILE", "lease.json: No such file");
	assert_int_equal(mkfifo(path, 0600), 0);
	refuses(-EINVAL, "LEASE_FILE", "lease.json: not a regular file");
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, WHOLE, strlen(WHOLE)), strlen(WHOLE));
	reads();
	assert_int_equal(ftruncate(fd, LEASE_FILE_MAX + 1), 0);
	refuses(-EINVAL, "LEASE_FILE", "lease.json: longer than 16384 bytes");
	assert_int_equal(ftruncate(fd, 40), 0);
	refuses(-EINVAL, "LEASE_FILE", "lease.json: ");
	close(fd);
	unlink(path);
	rmdir(folder);
	unsetenv("IOASID_LEASE_FILE");
}

static void test_device_fds(void **state)
{
	static const char *const wrong[] = {
		"x",
		"0000:01:00.0",
		"0000:01:00.0=",
		"0000:01:00.0=-1",
		"0000:01:00.0=1x",
		"0000:01:00.9=1",
		"0000:01:00.0=1,0000:01:00.1=2",
		"0000:01:00.0=1\n",
		"0000:01:00.0=1 0000:01:00.0=1",
		"0000:01:00.0=1 x",
		"0000:01:00.0=99999999999",
	};
	char value[128];
	struct stat a, b;
	int pipes[2], fd = -7;

	unsetenv("IOASID_DEVICE_FDS");
	assert_int_equal(ioasid_given_device_fd("0000:01:00.0", &fd), -ENODATA);
	setenv("IOASID_DEVICE_FDS", "", 1);
	assert_int_equal(ioasid_given_device_fd("0000:01:00.0", &fd), -ENODATA);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		setenv("IOASID_DEVICE_FDS", wrong[i], 1);
		if (ioasid_given_device_fd("0000:01:00.0", &fd) != -EINVAL)
			fail_msg("\"%s\" is taken", wrong[i]);
	}
	assert_int_equal(ioasid_given_device_fd(NULL, &fd), -EINVAL);
	assert_int_equal(ioasid_given_device_fd("0000:01:00.0", NULL), -EINVAL);
	assert_int_equal(fd, -7);

	assert_int_equal(pipe2(pipes, 0), 0);
	snprintf(value, sizeof(value), "0000:01:00.0=%d 0000:0a:00.1=%d", pipes[0], pipes[1]);
	setenv("IOASID_DEVICE_FDS", value, 1);
	assert_int_equal(ioasid_given_device_fd("0000:02:00.0", &fd), -ENODATA);
	assert_int_equal(ioasid_given_device_fd("0000:0A:00.1", &fd), 0);
	assert_true(fd >= 3 && fd != pipes[1]);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(pipes[1], &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
	fd = -7;
	assert_int_equal(ioasid_given_device_fd("0000:01:00.0", &fd), -EBADF);
	assert_int_equal(fd, -7);
	unsetenv("IOASID_DEVICE_FDS");
}

static void test_context_fd(void **state)
{
	static const char *const wrong[] = {"x", "-1", "1x", " 1", "99999999999"};
	int fd = -7, given = memfd_create("context", MFD_CLOEXEC);
	char value[16];

	unsetenv("IOASID_CONTEXT_FD");
	assert_int_equal(ioasid_given_context_fd(&fd), -ENODATA);
	setenv("IOASID_CONTEXT_FD", "", 1);
	assert_int_equal(ioasid_given_context_fd(&fd), -ENODATA);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		setenv("IOASID_CONTEXT_FD", wrong[i], 1);
		assert_int_equal(ioasid_given_context_fd(&fd), -EINVAL);
	}
	assert_int_equal(ioasid_given_context_fd(NULL), -EINVAL);
	assert_int_equal(fd, -7);
	snprintf(value, sizeof(value), "%d", given);
	setenv("IOASID_CONTEXT_FD", value, 1);
	assert_int_equal(ioasid_given_context_fd(&fd), 0);
	assert_true(fd >= 3 && fd != given);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	close(given);
	fd = -7;
	assert_int_equal(ioasid_given_context_fd(&fd), -EBADF);
	assert_int_equal(fd, -7);
	unsetenv("IOASID_CONTEXT_FD");
}

/* ---- adopting ---- */

static struct {
	_Atomic unsigned adoptions;
	/* So many are answered "another connection holds it". */
	_Atomic unsigned held;
	char name[160], tenant[300], lease[160], acted_in[160], acted_for[300];
	uint8_t secret[32];
} script;

static void refuse(struct fake_call *call, int code, const char *reason)
{
	struct wire wire;

	wire_status(&wire, code, "refused");
	wire_error_info(&wire, reason, "done", "0");
	fake_call_finish(call, code, "refused", wire.bytes, wire.n);
}

static void handle(struct fake_call *call, const char *path, void *userdata)
{
	if (!strcmp(path, "/ioasid.v1.Broker/AdoptLease")) {
		Ioasid__V1__AdoptLeaseRequest *q =
			fake_call_unpack(call, &ioasid__v1__adopt_lease_request__descriptor);
		Ioasid__V1__AdoptLeaseResponse p = IOASID__V1__ADOPT_LEASE_RESPONSE__INIT;

		script.adoptions++;
		snprintf(script.name, sizeof(script.name), "%s", q->name);
		snprintf(script.tenant, sizeof(script.tenant), "%s", q->scope->tenant);
		snprintf(script.lease, sizeof(script.lease), "%s", q->scope->lease);
		assert_int_equal(q->secret.len, 32);
		memcpy(script.secret, q->secret.data, 32);
		if (script.held) {
			script.held--;
			refuse(call, 9, "WRONG_STATE");
		} else if (!strcmp(q->name, "gone")) {
			refuse(call, 5, "NOT_FOUND");
		} else {
			fake_call_reply(call, &p.base);
		}
	} else if (!strcmp(path, "/ioasid.v1.Broker/Free")) {
		Ioasid__V1__FreeRequest *q =
			fake_call_unpack(call, &ioasid__v1__free_request__descriptor);
		Ioasid__V1__FreeResponse p = IOASID__V1__FREE_RESPONSE__INIT;

		snprintf(script.acted_in, sizeof(script.acted_in), "%s", q->scope->lease);
		snprintf(script.acted_for, sizeof(script.acted_for), "%s", q->scope->tenant);
		fake_call_reply(call, &p.base);
	} else if (strstr(path, "/ListLeases")) {
		Ioasid__V1__ListLeasesRequest *q =
			fake_call_unpack(call, &ioasid__v1__list_leases_request__descriptor);
		Ioasid__V1__ListLeasesResponse p = IOASID__V1__LIST_LEASES_RESPONSE__INIT;

		snprintf(script.acted_in, sizeof(script.acted_in), "%s", q->scope->lease);
		snprintf(script.acted_for, sizeof(script.acted_for), "%s", q->scope->tenant);
		fake_call_reply(call, &p.base);
	} else {
		refuse(call, 12, "UNIMPLEMENTED");
	}
}

static struct ioasid_client *connect_to(struct fake_broker *broker, const char *lease,
					const char *tenant)
{
	const struct ioasid_options options = {
		.lease = lease, .tenant = tenant, .reconnect_ms = IOASID_NO_RECONNECT};
	struct ioasid_client *client;

	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &client, NULL), 0);
	return client;
}

static void acts_in(struct ioasid_client *client, const char *lease, const char *tenant)
{
	assert_int_equal(ioasid_free(client, NULL, 1, NULL, NULL), 0);
	assert_string_equal(script.acted_in, lease);
	assert_string_equal(script.acted_for, tenant);
}

static void test_adopt(void **state)
{
	struct fake_broker *broker = fake_broker_new(handle, NULL, NULL);
	struct ioasid_client *client = connect_to(broker, NULL, NULL);
	char name[IOASID_LEASE_NAME_SIZE] = "as before";
	const struct ioasid_scope own = {.lease = "", .tenant = ""};
	struct ioasid_error *error;
	struct ioasid_leases *leases;
	int fd = memfd_with(WHOLE), other;

	unsetenv("IOASID_LEASE_FILE");
	assert_int_equal(ioasid_lease_adopt_given(client, name, &error), -ENODATA);
	assert_string_equal(error->reason, "NOTHING_GIVEN");
	ioasid_error_free(error);
	assert_int_equal(ioasid_lease_adopt_given(NULL, name, NULL), -EINVAL);
	assert_string_equal(name, "as before");
	assert_int_equal(script.adoptions, 0);
	acts_in(client, "", "");

	set_fd(fd);
	assert_int_equal(ioasid_lease_adopt_given(client, name, NULL), 0);
	assert_string_equal(name, "exec-7");
	assert_string_equal(script.name, "exec-7");
	assert_string_equal(script.tenant, "acme/web");
	assert_string_equal(script.lease, "");
	for (size_t i = 0; i < 32; i++)
		assert_int_equal(script.secret[i], i % 16 * 0x11);
	acts_in(client, "exec-7", "acme/web");
	/* What acts in no lease is not refused for a default. */
	assert_int_equal(ioasid_lease_list(client, NULL, &leases, NULL), 0);
	ioasid_leases_free(leases);
	assert_string_equal(script.acted_in, "");
	assert_string_equal(script.acted_for, "acme/web");
	assert_int_equal(ioasid_free(client, &own, 1, NULL, NULL), 0);
	assert_string_equal(script.acted_in, "");

	/* Another lease is adopted, and the first stays the default. */
	other = memfd_with("{" VERSION "," TENANT ",\"lease\":\"second\"," KEY ",\"devices\":[]}");
	set_fd(other);
	assert_int_equal(ioasid_lease_adopt_given(client, NULL, NULL), 0);
	assert_string_equal(script.name, "second");
	acts_in(client, "exec-7", "acme/web");
	close(other);
	ioasid_client_unref(client);

	/* What the program chose stays. */
	set_fd(fd);
	client = connect_to(broker, "mine", NULL);
	assert_int_equal(ioasid_lease_adopt_given(client, NULL, NULL), 0);
	acts_in(client, "mine", "");
	ioasid_client_unref(client);
	client = connect_to(broker, NULL, "acme/db");
	assert_int_equal(ioasid_lease_adopt_given(client, NULL, NULL), 0);
	acts_in(client, "", "acme/db");
	ioasid_client_unref(client);
	close(fd);
	unsetenv("IOASID_LEASE_FILE");
	fake_broker_free(broker);
}

static void test_adopt_refused(void **state)
{
	struct fake_broker *broker = fake_broker_new(handle, NULL, NULL);
	struct ioasid_client *client = connect_to(broker, NULL, NULL);
	char name[IOASID_LEASE_NAME_SIZE] = "as before";
	struct ioasid_error *error;
	int fd = memfd_with(WHOLE), gone;

	/* The one before has just left. */
	set_fd(fd);
	script.adoptions = 0;
	script.held = 3;
	assert_int_equal(ioasid_lease_adopt_given(client, NULL, NULL), 0);
	assert_int_equal(script.adoptions, 4);
	ioasid_client_unref(client);

	/* It has not. */
	client = connect_to(broker, NULL, NULL);
	script.held = 100000;
	assert_int_equal(ioasid_lease_adopt_given(client, name, &error), -EBUSY);
	assert_string_equal(error->reason, "WRONG_STATE");
	ioasid_error_free(error);
	script.held = 100000;
	assert_int_equal(ioasid_lease_adopt_given(client, name, NULL), -EBUSY);
	script.held = 0;
	acts_in(client, "", "");

	gone = memfd_with("{" VERSION "," TENANT ",\"lease\":\"gone\"," KEY ",\"devices\":[]}");
	set_fd(gone);
	script.adoptions = 0;
	assert_int_equal(ioasid_lease_adopt_given(client, name, &error), -ENOENT);
	assert_true(ioasid_error_is_not_found(error));
	ioasid_error_free(error);
	assert_int_equal(script.adoptions, 1);
	acts_in(client, "", "");
	assert_string_equal(name, "as before");
	close(gone);
	close(fd);
	unsetenv("IOASID_LEASE_FILE");
	ioasid_client_unref(client);
	fake_broker_free(broker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	      cmocka_unit_test(test_parse_no_devices),
		cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_parse_bounds),
		cmocka_unit_test(test_read),	      cmocka_unit_test(test_device_fds),
		cmocka_unit_test(test_adopt),	      cmocka_unit_test(test_adopt_refused),
		cmocka_unit_test(test_context_fd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
