/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of docs/fd-protocol.md, byte by byte: what goes out, and every reply
 * that a broker may give or should not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_broker.h"
#include "ioasid.h"

#include "ioasid.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const uint8_t ticket[16] = {0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff};

static struct {
	/* What to answer. */
	uint8_t reply[16];
	size_t n_reply;
	/* Milliseconds between bytes; -1: never answer. */
	int pace;
	unsigned fds;
	/* What came. */
	uint8_t request[32];
	bool with_fd;
	ino_t inode;
	unsigned connections;
	/* RegisterMemory and OpenLease */
	Ioasid__V1__RegisterMemoryRequest registration;
	uint8_t registered_ticket[16];
	uint8_t watch_ticket[16];
	unsigned purpose;
	char lease[64];
	bool short_ticket;
} script;

static void send_reply(int connection, const uint8_t *bytes, size_t n, unsigned fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)bytes, n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	int pipes[4];

	if (fds) {
		assert_return_code(pipe(pipes), errno);
		assert_return_code(pipe(pipes + 2), errno);
		control.header = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(fds * sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		};
		memcpy(CMSG_DATA(&control.header), pipes, fds * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fds * sizeof(int));
	}
	assert_int_equal(sendmsg(connection, &message, MSG_NOSIGNAL), n);
	if (fds)
		for (size_t i = 0; i < 4; i++)
			close(pipes[i]);
}

static void fd_handler(int connection, const uint8_t request[static 32], int fd, void *userdata)
{
	struct stat st = {0};
	char byte;

	script.connections++;
	memcpy(script.request, request, 32);
	script.with_fd = fd >= 0;
	if (fd >= 0)
		fstat(fd, &st);
	script.inode = st.st_ino;
	if (script.pace < 0) {
		/* Until the client gives up. */
		assert_int_equal(recv(connection, &byte, 1, 0), 0);
		return;
	}
	if (!script.pace) {
		if (script.n_reply)
			send_reply(connection, script.reply, script.n_reply, script.fds);
		return;
	}
	for (size_t i = 0; i < script.n_reply; i++) {
		send_reply(connection, script.reply + i, 1, i ? 0 : script.fds);
		poll(NULL, 0, script.pace);
	}
}

static void handler(struct fake_call *call, const char *path, void *userdata)
{
	if (!strcmp(path, "/ioasid.v1.Broker/OpenTicket")) {
		Ioasid__V1__OpenTicketRequest *request =
			fake_call_unpack(call, &ioasid__v1__open_ticket_request__descriptor);
		Ioasid__V1__OpenTicketResponse response = IOASID__V1__OPEN_TICKET_RESPONSE__INIT;

		script.purpose = request->purpose;
		strcpy(script.lease, request->scope->lease);
		assert_string_equal(request->scope->key, "");
		response.ticket.data = (uint8_t *)ticket;
		response.ticket.len = script.short_ticket ? 15 : 16;
		response.lifetime_ms = 10000;
		fake_call_reply(call, &response.base);
	} else if (!strcmp(path, "/ioasid.v1.Broker/GetContextFd")) {
		Ioasid__V1__GetContextFdResponse response =
			IOASID__V1__GET_CONTEXT_FD_RESPONSE__INIT;

		response.ticket.data = (uint8_t *)ticket;
		response.ticket.len = 16;
		fake_call_reply(call, &response.base);
	} else if (!strcmp(path, "/ioasid.v1.Broker/GetDeviceFd")) {
		Ioasid__V1__GetDeviceFdResponse response = IOASID__V1__GET_DEVICE_FD_RESPONSE__INIT;

		response.ticket.data = (uint8_t *)ticket;
		response.ticket.len = 16;
		fake_call_reply(call, &response.base);
	} else if (!strcmp(path, "/ioasid.v1.Broker/OpenLease")) {
		Ioasid__V1__OpenLeaseRequest *request =
			fake_call_unpack(call, &ioasid__v1__open_lease_request__descriptor);
		Ioasid__V1__OpenLeaseResponse response = IOASID__V1__OPEN_LEASE_RESPONSE__INIT;
		uint8_t secret[32];

		assert_string_equal(request->scope->lease, "");
		assert_int_equal(request->watch_ticket.len, 16);
		memcpy(script.watch_ticket, request->watch_ticket.data, 16);
		memset(secret, 0xab, sizeof(secret));
		response.secret.data = secret;
		response.secret.len = sizeof(secret);
		fake_call_reply(call, &response.base);
	} else {
		Ioasid__V1__RegisterMemoryRequest *request =
			fake_call_unpack(call, &ioasid__v1__register_memory_request__descriptor);
		Ioasid__V1__RegisterMemoryResponse response =
			IOASID__V1__REGISTER_MEMORY_RESPONSE__INIT;

		assert_string_equal(path, "/ioasid.v1.Broker/RegisterMemory");
		assert_string_equal(request->scope->lease, script.lease);
		script.registration = *request;
		assert_string_equal(request->label, "guest");
		assert_string_equal(request->scope->key, "k");
		assert_int_equal(request->ticket.len, 16);
		memcpy(script.registered_ticket, request->ticket.data, 16);
		response.memory = 5;
		response.length = 8192;
		response.page_size = 4096;
		fake_call_reply(call, &response.base);
	}
}

static const struct ioasid_options one_connection = {.reconnect_ms = IOASID_NO_RECONNECT};
static struct fake_broker *broker;
static struct ioasid_client *client;
static struct ioasid_error *error;
static unsigned fds_before;

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int setup(void **state)
{
	static const uint8_t ok[16] = {'I', 'O', 'F', 'D', 1};

	memset(&script, 0, sizeof(script));
	memcpy(script.reply, ok, 16);
	script.n_reply = 16;
	broker = fake_broker_new(handler, fd_handler, NULL);
	error = NULL;
	client = NULL;
	fds_before = count_fds();
	return 0;
}

static int teardown(void **state)
{
	ioasid_error_free(error);
	ioasid_client_unref(client);
	fake_broker_free(broker);
	return 0;
}

/* No fd of the exchange stays open; the server's end may close a little later. */
static void check_no_fd_left(void)
{
	for (int i = 0; i < 200 && count_fds() != fds_before; i++)
		poll(NULL, 0, 5);
	assert_int_equal(count_fds(), fds_before);
}

static int memfd(ino_t *ret_inode)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;

	assert_return_code(fd, errno);
	assert_return_code(ftruncate(fd, 8192), errno);
	fstat(fd, &st);
	*ret_inode = st.st_ino;
	return fd;
}

static void test_give(void **state)
{
	static const uint8_t head[8] = {'I', 'O', 'F', 'D', 1, 1};
	ino_t inode;
	int fd = memfd(&inode);

	assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, fd, 0, &error), 0);
	assert_memory_equal(script.request, head, 8);
	assert_memory_equal(script.request + 8, ticket, 16);
	for (int i = 24; i < 32; i++)
		assert_int_equal(script.request[i], 0);
	assert_true(script.with_fd);
	assert_int_equal(script.inode, inode);
	/* Still the caller's. */
	assert_return_code(fcntl(fd, F_GETFD), errno);
	close(fd);
	check_no_fd_left();
}

static void test_take(void **state)
{
	static const uint8_t head[8] = {'I', 'O', 'F', 'D', 1, 2};
	int fd = -1;

	script.fds = 1;
	assert_int_equal(ioasid_ticket_take(fake_broker_path(broker), ticket, 0, &fd, &error), 0);
	assert_memory_equal(script.request, head, 8);
	assert_false(script.with_fd);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	check_no_fd_left();
}

/* One fd too many is closed, one where none belongs as well. */
static void test_fds_too_many(void **state)
{
	ino_t inode;
	int fd = -1, memory = memfd(&inode);

	script.fds = 3;
	assert_int_equal(ioasid_ticket_take(fake_broker_path(broker), ticket, 0, &fd, &error), 0);
	close(fd);
	script.fds = 1;
	assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, memory, 0, &error),
			 0);
	script.reply[5] = 2;
	assert_int_equal(ioasid_ticket_take(fake_broker_path(broker), ticket, 0, &fd, &error),
			 -EACCES);
	close(memory);
	check_no_fd_left();
}

static void test_take_without_fd(void **state)
{
	int fd = -2;

	assert_int_equal(ioasid_ticket_take(fake_broker_path(broker), ticket, 0, &fd, &error),
			 -EPROTO);
	assert_int_equal(fd, -2);
	check_no_fd_left();
}

static void test_statuses(void **state)
{
	static const struct {
		uint8_t status;
		int error;
		const char *reason;
	} cases[] = {
		{1, -EPROTO, "MALFORMED"},	  {2, -EACCES, "TICKET_REFUSED"},
		{3, -EINVAL, "FD_UNSUITABLE"},	  {4, -EDQUOT, "QUOTA"},
		{5, -EHOSTDOWN, "SHUTTING_DOWN"}, {6, -EPROTO, "BAD_ANSWER"},
		{255, -EPROTO, "BAD_ANSWER"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		script.reply[5] = cases[i].status;
		assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, 0, 0, &error),
				 cases[i].error);
		assert_string_equal(error->reason, cases[i].reason);
		assert_string_equal(error->method, "give");
		assert_int_equal(ioasid_error_is_denied(error), cases[i].status == 2);
		assert_int_equal(ioasid_error_is_quota(error), cases[i].status == 4);
		ioasid_error_free(error);
		error = NULL;
	}
}

static void test_broken_replies(void **state)
{
	/* Wrong magic, wrong version. */
	for (size_t i = 0; i < 5; i++) {
		script.reply[i] ^= 0x20;
		assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, 0, 0, &error),
				 -EPROTO);
		script.reply[i] ^= 0x20;
		ioasid_error_free(error);
		error = NULL;
	}
	/* The connection ends after n bytes. */
	for (script.n_reply = 0; script.n_reply < 16; script.n_reply++) {
		assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, 0, 0, &error),
				 -ECONNRESET);
		assert_true(ioasid_error_is_no_server(error));
		ioasid_error_free(error);
		error = NULL;
	}
	/* Cut in the middle with an fd on its way. */
	script.fds = 1;
	script.n_reply = 15;
	assert_int_equal(
		ioasid_ticket_take(fake_broker_path(broker), ticket, 0, &(int){-1}, &error),
		-ECONNRESET);
	check_no_fd_left();
}

static void test_slow_reply(void **state)
{
	int fd = -1;

	/* Sixteen bytes, one at a time. */
	script.pace = 5;
	script.fds = 1;
	assert_int_equal(ioasid_ticket_take(fake_broker_path(broker), ticket, 0, &fd, &error), 0);
	close(fd);
	check_no_fd_left();
}

static void test_no_reply(void **state)
{
	struct timespec before, after;
	double seconds;

	script.pace = -1;
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, 0, 150, &error),
			 -ETIMEDOUT);
	clock_gettime(CLOCK_MONOTONIC, &after);
	seconds = (double)(after.tv_sec - before.tv_sec) +
		  (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	assert_true(seconds >= 0.149 && seconds < 2);
	assert_string_equal(error->reason, "TIMED_OUT");
}

static void test_bad_arguments(void **state)
{
	assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, -1, 0, NULL),
			 -EINVAL);
	assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), NULL, 0, 0, NULL), -EINVAL);
	assert_int_equal(ioasid_ticket_take(fake_broker_path(broker), ticket, 0, NULL, NULL),
			 -EINVAL);
	/* An fd that is not open is told from a broker that is not there. */
	assert_int_equal(ioasid_ticket_give(fake_broker_path(broker), ticket, 1 << 20, 0, &error),
			 -EINVAL);
	assert_int_equal(ioasid_ticket_give("/tmp/ioasid-lib-no-such-socket", ticket, 0, 0, NULL),
			 -ENOENT);
}

static void test_register_memory(void **state)
{
	const struct ioasid_options options = {.lease = "guest-1",
					       .reconnect_ms = IOASID_NO_RECONNECT};
	const struct ioasid_scope scope = {.key = "k"};
	struct ioasid_memory *memory;
	ino_t inode;
	int fd = memfd(&inode);

	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &client, &error), 0);
	assert_int_equal(ioasid_register_memory(client, &scope, fd, 4096, 8192, IOASID_READ,
						"guest", &memory, &error),
			 0);
	assert_int_equal(script.inode, inode);
	assert_int_equal(script.purpose, IOASID_TICKET_MEMORY);
	assert_string_equal(script.lease, "guest-1");
	assert_memory_equal(script.registered_ticket, ticket, 16);
	assert_int_equal(script.registration.offset, 4096);
	assert_int_equal(script.registration.length, 8192);
	assert_true(script.registration.read && !script.registration.write);
	assert_int_equal(memory->id, 5);
	assert_int_equal(memory->length, 8192);
	assert_int_equal(memory->page_size, 4096);
	assert_int_equal(memory->flags, IOASID_READ);
	assert_string_equal(memory->label, "guest");
	ioasid_memory_free(memory);

	/* A refused hand-over ends it: nothing is registered. */
	script.reply[5] = 3;
	memset(&script.registration, 0, sizeof(script.registration));
	assert_int_equal(ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_READ, "guest",
						&memory, &error),
			 -EINVAL);
	assert_string_equal(error->reason, "FD_UNSUITABLE");
	assert_int_equal(script.registration.length, 0);
	ioasid_error_free(error);

	script.connections = 0;
	script.short_ticket = true;
	assert_int_equal(ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_READ, "guest",
						&memory, &error),
			 -EPROTO);
	assert_int_equal(script.connections, 0);
	ioasid_error_free(error);
	assert_int_equal(ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_EXECUTE, "guest",
						&memory, &error),
			 -EINVAL);
	close(fd);
}

/* The hand-over may take no longer than the call. */
static void test_register_memory_in_time(void **state)
{
	const struct ioasid_scope scope = {.key = "k", .timeout_ms = 200};
	struct ioasid_memory *memory;
	ino_t inode;
	int fd = memfd(&inode);

	script.pace = -1;
	assert_int_equal(ioasid_connect(fake_broker_path(broker), &one_connection, &client, &error),
			 0);
	assert_int_equal(ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_READ, "guest",
						&memory, &error),
			 -ETIMEDOUT);
	close(fd);
}

static void test_device_fd(void **state)
{
	int fd = -1;

	script.fds = 1;
	assert_int_equal(ioasid_connect(fake_broker_path(broker), &one_connection, &client, &error),
			 0);
	assert_int_equal(ioasid_device_fd(client, NULL, "0000:00:01.0", &fd, &error), 0);
	assert_memory_equal(script.request + 8, ticket, 16);
	assert_int_equal(script.request[5], 2);
	close(fd);
	fd = -1;
	assert_int_equal(ioasid_context_fd(client, NULL, &fd, &error), 0);
	assert_memory_equal(script.request + 8, ticket, 16);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void test_lease_of_a_process(void **state)
{
	const struct ioasid_options options = {.lease = "not used here",
					       .reconnect_ms = IOASID_NO_RECONNECT};
	uint8_t secret[32], want[32];
	ino_t inode;
	int fd = memfd(&inode);

	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &client, &error), 0);
	assert_int_equal(ioasid_lease_open(client, NULL, "vm", 5, fd, secret, &error), 0);
	assert_int_equal(script.purpose, IOASID_TICKET_PROCESS);
	assert_string_equal(script.lease, "");
	assert_int_equal(script.inode, inode);
	assert_memory_equal(script.watch_ticket, ticket, 16);
	memset(want, 0xab, 32);
	assert_memory_equal(secret, want, 32);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_give, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fds_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take_without_fd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_statuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_replies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reply, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_reply, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_register_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_register_memory_in_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device_fd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lease_of_a_process, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
