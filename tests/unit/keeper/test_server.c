/* SPDX-License-Identifier: Apache-2.0 */
/* Client and daemon over a real socket, on a fake host; then clients that do not behave. */
#include "keeper/protocol.h"
#include "keeper/server.h"
#include "keeper/wire.h"

#include "fake_host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#define C "0000:3c:00.0"
#define D "0000:3d:00.0"

static struct fake_host fake;
static struct vault *vault;
static struct server_config config;
static struct sockaddr_un address;
static pthread_t server;
static char reason[KEEPER_REASON_MAX];

static void *server_main(void *arg)
{
	assert_int_equal(server_run(&config), 0);
	return NULL;
}

static void server_start(void)
{
	unlink(address.sun_path);
	config.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	config.stop = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(bind(config.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(config.listener, 128), 0);
	chmod(address.sun_path, 0666);
	assert_int_equal(pthread_create(&server, NULL, server_main, NULL), 0);
}

static void server_end(void)
{
	assert_int_equal(eventfd_write(config.stop, 1), 0);
	pthread_join(server, NULL);
	close(config.listener);
	close(config.stop);
}

static int setup(void **state)
{
	struct vault_config vault_config = {
		.host = &fake.host,
		.limits = {{64, 64, 64}, {64, 64, 64}},
	};

	fake_host_init(&fake);
	chmod(fake.root, 0755);
	fake_add(&fake, C, "0x010802", 2, "nvme");
	fake_add(&fake, D, "0x120000", 3, NULL);
	assert_int_equal(vault_new(&vault_config, &vault), 0);
	config = (struct server_config){.vault = vault, .host = &fake.host, .client = geteuid()};
	address.sun_family = AF_UNIX;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", fake.root);
	server_start();
	return 0;
}

static int teardown(void **state)
{
	server_end();
	vault_free(vault);
	assert_int_equal(fake.n_offences, 0);
	fake_host_deinit(&fake);
	return 0;
}

static struct keeper *client_new(void)
{
	struct keeper *keeper;

	assert_int_equal(keeper_connect(address.sun_path, &keeper), 0);
	return keeper;
}

static int raw_connect(void)
{
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	return sock;
}

static unsigned long inode_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static void test_every_call(void **state)
{
	struct keeper *keeper = client_new();
	const char *const both[] = {C, D};
	const char *const none[] = {"0000:77:00.0"};
	const char *const bad[] = {"../../x"};
	struct keeper_context_id context, next;
	struct keeper_device device;
	int fd = -1, fds[2] = {-1, -1}, memory = memfd_create("m", MFD_CLOEXEC);

	assert_int_equal(keeper_context_open(keeper, "acme", reason, &context, &fd), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(keeper_context_next(keeper, (struct keeper_context_id){0}, &next), 0);
	assert_int_equal(next.value, context.value);
	fd = -1;
	assert_int_equal(keeper_context_take(keeper, next, &fd), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	fd = -7;
	next.value++;
	assert_int_equal(keeper_context_take(keeper, next, &fd), KEEPER_E_NOT_FOUND);
	assert_int_equal(fd, -7);
	next.value--;
	assert_int_equal(keeper_context_next(keeper, next, &next), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_device_examine(keeper, C, &device), 0);
	assert_string_equal(device.driver, "nvme");
	assert_int_equal(keeper_device_examine(keeper, none[0], &device), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_device_is_free(keeper, C), 0);
	assert_int_equal(keeper_device_is_free(keeper, none[0]), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_device_is_free(keeper, bad[0]), -EINVAL);
	assert_int_equal(keeper_devices_claim(keeper, context, none, 1, reason, fds),
			 KEEPER_E_NOT_FOUND);
	assert_string_equal(reason, "the host has no 0000:77:00.0");
	assert_int_equal(keeper_devices_claim(keeper, context, bad, 1, reason, fds), -EINVAL);
	assert_int_equal(keeper_devices_claim(keeper, context, both, 0, reason, fds), -EINVAL);
	assert_int_equal(keeper_devices_claim(keeper, context, both, 65, reason, fds), -EINVAL);
	assert_int_equal(fds[0], -1);
	assert_int_equal(keeper_devices_claim(keeper, context, both, 2, reason, fds), 0);
	/* In the order that was asked for. */
	assert_int_equal(inode_of(fds[0]), fake.opens[1].inode);
	assert_int_equal(fake.opens[1].node, 0x3c00);
	assert_int_equal(inode_of(fds[1]), fake.opens[3].inode);
	assert_int_equal(keeper_device_is_free(keeper, D), KEEPER_E_BUSY);
	wire_close(fds, 2);
	assert_int_equal(keeper_devices_release(keeper, context, both, 1), 0);
	assert_int_equal(keeper_device_is_free(keeper, C), 0);
	assert_int_equal(keeper_context_close(keeper, context), 0);
	assert_int_equal(keeper_device_is_free(keeper, D), 0);
	assert_int_equal(keeper_context_close(keeper, context), KEEPER_E_NOT_FOUND);

	assert_int_equal(keeper_fd_hold(keeper, "acme", "mem.1", memory), 0);
	assert_int_equal(keeper_fd_hold(keeper, "acme", "a/b", memory), -EINVAL);
	assert_int_equal(keeper_fd_hold(keeper, "acme", "mem.1", -1), -EINVAL);
	assert_int_equal(keeper_fd_take(keeper, "mem.1", &fd), 0);
	assert_int_equal(inode_of(fd), inode_of(memory));
	close(fd);
	assert_int_equal(keeper_fd_drop(keeper, "mem.1"), 0);
	assert_int_equal(keeper_fd_take(keeper, "mem.1", &fd), KEEPER_E_NOT_FOUND);
	close(memory);
	keeper_free(keeper);
	keeper_free(NULL);
}

static void test_delegate(void **state)
{
	static const uid_t holders[] = {1000, 1001};
	struct keeper *keeper = client_new();
	struct keeper_context_id context, other;
	int process = memfd_create("pidfd", MFD_CLOEXEC), fd;

	fake.process_uid = 1001;
	assert_int_equal(keeper_context_open(keeper, "acme", reason, &context, &fd), 0);
	close(fd);
	/* Nobody was named. */
	assert_int_equal(keeper_context_delegate(keeper, context, process, 1001, 4096, reason),
			 KEEPER_E_FORBIDDEN);
	assert_string_equal(reason, "process 4711 is of uid 1001, which the keeper may not end "
				    "(--holder)");
	assert_int_equal(keeper_holder_end(keeper, "acme", process, reason), KEEPER_E_FORBIDDEN);
	assert_int_equal(fake.n_counted + fake.n_ended, 0);

	fake.host.holders = holders;
	fake.host.n_holders = 2;
	assert_int_equal(keeper_context_delegate(keeper, context, process, 1001, 1 << 20, reason),
			 0);
	assert_int_equal(fake.process_locks, 1 << 20);
	assert_int_equal(fake.n_counted, 1);
	assert_int_equal(keeper_holder_end(keeper, "acme", process, reason), 0);
	assert_int_equal(fake.n_ended, 1);

	assert_int_equal(keeper_context_delegate(keeper, context, process, 1000, 4096, reason),
			 KEEPER_E_FORBIDDEN);

	other.value = context.value + 1;
	assert_int_equal(keeper_context_delegate(keeper, other, process, 1001, 4096, reason),
			 KEEPER_E_NOT_FOUND);
	/* What the protocol cannot say. */
	assert_int_equal(keeper_context_delegate(keeper, context, process, 1001, 0, reason),
			 -EINVAL);
	assert_int_equal(keeper_context_delegate(keeper, context, -1, 1001, 4096, reason), -EINVAL);
	assert_int_equal(keeper_holder_end(keeper, "", process, reason), -EINVAL);
	assert_int_equal(keeper_holder_end(keeper, "acme", -1, reason), -EINVAL);
	close(process);
	keeper_free(keeper);
}

/* A broker that is started anew has only what its registry says: all else it finds. */
static void test_find_again(void **state)
{
	struct keeper *keeper = client_new();
	const char *const both[] = {D, C}, *const bad[] = {"../../x"};
	struct keeper_context_id context, other = {0};
	char found[KEEPER_ADDRESS_MAX] = "as it was", name[KEEPER_NAME_MAX] = "as it was";
	int fd, fds[2] = {-1, -1}, copies[2] = {-7, -7};
	int memory = memfd_create("m", MFD_CLOEXEC), second = memfd_create("n", MFD_CLOEXEC);

	assert_int_equal(keeper_context_open(keeper, "acme", reason, &context, &fd), 0);
	close(fd);
	assert_int_equal(keeper_claim_next(keeper, context, NULL, found), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_claim_next(keeper, other, NULL, found), -EINVAL);
	assert_int_equal(keeper_claim_next(keeper, context, bad[0], found), -EINVAL);
	assert_int_equal(keeper_devices_take(keeper, context, both, 2, copies), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_devices_claim(keeper, context, both, 2, reason, fds), 0);
	assert_int_equal(keeper_devices_take(keeper, context, both, 0, copies), -EINVAL);
	assert_int_equal(keeper_devices_take(keeper, context, both, 65, copies), -EINVAL);
	assert_int_equal(keeper_devices_take(keeper, context, bad, 1, copies), -EINVAL);
	other.value = context.value + 1;
	assert_int_equal(keeper_devices_take(keeper, other, both, 2, copies), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_claim_next(keeper, other, NULL, found), KEEPER_E_NOT_FOUND);
	assert_int_equal(copies[0], -7);
	assert_string_equal(found, "as it was");
	keeper_free(keeper);

	keeper = client_new();
	assert_int_equal(keeper_claim_next(keeper, context, NULL, found), 0);
	assert_string_equal(found, C);
	assert_int_equal(keeper_claim_next(keeper, context, "", found), 0);
	assert_string_equal(found, C);
	assert_int_equal(keeper_claim_next(keeper, context, found, found), 0);
	assert_string_equal(found, D);
	assert_int_equal(keeper_claim_next(keeper, context, found, found), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_devices_take(keeper, context, both, 2, copies), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(inode_of(copies[i]), inode_of(fds[i]));
		assert_true(fcntl(copies[i], F_GETFD) & FD_CLOEXEC);
	}
	wire_close(fds, 2);
	wire_close(copies, 2);
	assert_int_equal(keeper_context_close(keeper, context), 0);

	assert_int_equal(keeper_fd_next(keeper, "", name), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_fd_next(keeper, "a/b", name), -EINVAL);
	assert_int_equal(
		keeper_fd_next(keeper,
			       "a-name-of-sixty-four-characters-that-has-no-room-for-the-nul-ab",
			       name),
		KEEPER_E_NOT_FOUND);
	assert_int_equal(
		keeper_fd_next(keeper,
			       "a-name-of-sixty-four-characters-that-has-no-room-for-the-nul-abc",
			       name),
		-EINVAL);
	assert_string_equal(name, "as it was");
	assert_int_equal(keeper_fd_hold(keeper, "acme", "mem.2", memory), 0);
	assert_int_equal(keeper_fd_hold(keeper, "acme", "mem.1", memory), 0);
	/* One that exists is replaced, also for another owner. */
	assert_int_equal(keeper_fd_hold(keeper, "beta", "mem.1", second), 0);
	assert_int_equal(keeper_fd_next(keeper, "", name), 0);
	assert_string_equal(name, "mem.1");
	assert_int_equal(keeper_fd_take(keeper, name, &fd), 0);
	assert_int_equal(inode_of(fd), inode_of(second));
	close(fd);
	assert_int_equal(keeper_fd_next(keeper, name, name), 0);
	assert_string_equal(name, "mem.2");
	assert_int_equal(keeper_fd_next(keeper, name, name), KEEPER_E_NOT_FOUND);
	close(memory);
	close(second);
	keeper_free(keeper);
}

static bool is_readable(int fd, int patience)
{
	struct pollfd polled = {.fd = fd, .events = POLLIN};

	return poll(&polled, 1, patience) == 1 && (polled.revents & (POLLIN | POLLHUP));
}

static void test_watch(void **state)
{
	struct keeper *keeper = client_new();
	int watch = -7, second = -7;
	char byte;

	assert_int_equal(keeper_watch(keeper, &watch), 0);
	assert_true(fcntl(watch, F_GETFD) & FD_CLOEXEC);
	/* Whatever else is said, and whoever ends, nothing happens on it. */
	for (int i = 0; i < 100; i++)
		assert_int_equal(keeper_device_is_free(keeper, C), 0);
	keeper_free(client_new());
	keeper_free(keeper);
	assert_false(is_readable(watch, 300));
	server_end();
	assert_true(is_readable(watch, 5000));
	assert_int_equal(recv(watch, &byte, 1, 0), 0);
	close(watch);
	server_start();
	keeper = client_new();
	assert_int_equal(keeper_watch(keeper, &watch), 0);
	assert_false(is_readable(watch, 0));
	server_end();
	assert_int_equal(keeper_watch(keeper, &second), -ECONNREFUSED);
	assert_int_equal(second, -7);
	close(watch);
	server_start();
	keeper_free(keeper);
}

/* A watch takes a place among the 64, and without one it says so. */
static void test_watch_without_place(void **state)
{
	struct keeper *keeper = client_new();
	int watches[SERVER_CONNECTIONS_MAX], fd = -7;
	size_t n = 0;

	/* One place is the pool's. */
	while (n < SERVER_CONNECTIONS_MAX - 1)
		assert_int_equal(keeper_watch(keeper, &watches[n++]), 0);
	assert_int_equal(keeper_watch(keeper, &fd), -EPIPE);
	assert_int_equal(fd, -7);
	for (size_t i = 0; i < n; i++)
		assert_false(is_readable(watches[i], 0));
	assert_int_equal(keeper_device_is_free(keeper, C), 0);
	wire_close(watches, n);
	keeper_free(keeper);
}

/* A connection that lay idle while the keeper was restarted is replaced. */
static void test_restart(void **state)
{
	struct keeper *keeper = client_new();
	const char *const one[] = {C};
	struct keeper_context_id context;
	int fd;

	server_end();
	assert_int_equal(keeper_device_is_free(keeper, C), -ECONNREFUSED);
	server_start();
	assert_int_equal(keeper_device_is_free(keeper, C), 0);
	server_end();
	server_start();
	assert_int_equal(keeper_device_is_free(keeper, C), 0);
	/* Not delivered is not done, whatever it is. */
	server_end();
	server_start();
	assert_int_equal(keeper_context_open(keeper, "acme", reason, &context, &fd), 0);
	server_end();
	server_start();
	assert_int_equal(keeper_devices_release(keeper, context, one, 1), KEEPER_E_NOT_FOUND);
	server_end();
	server_start();
	assert_int_equal(keeper_context_close(keeper, context), 0);
	close(fd);
	keeper_free(keeper);
	assert_int_equal(keeper_connect("/nonexistent/socket", &keeper), -ENOENT);
}

/* ---- a keeper that ends in the middle of a call ---- */

struct dying {
	int listener;
	_Atomic unsigned deaths; /* so many requests are taken and not answered */
	_Atomic unsigned taken;
};

/* Whether the connection goes on. */
static bool dying_serve(struct dying *dying, int sock)
{
	uint8_t bytes[KEEPER_REQUEST_SIZE], answer[KEEPER_REPLY_SIZE];
	struct keeper_request request;
	struct keeper_reply reply = {0};
	int fds[WIRE_FDS_MAX];
	size_t n;

	if (wire_receive(sock, bytes, sizeof(bytes), fds, &n) != sizeof(bytes))
		return false;
	assert_int_equal(keeper_request_parse(bytes, sizeof(bytes), n, &request), 0);
	wire_close(fds, n);
	if (dying->taken++ < dying->deaths)
		return false;
	reply.op = request.op;
	keeper_reply_build(&reply, answer);
	return !wire_send(sock, answer, sizeof(answer), NULL, 0);
}

static void *dying_main(void *arg)
{
	struct dying *dying = arg;
	int sock;

	while ((sock = accept(dying->listener, NULL, NULL)) >= 0) {
		while (dying_serve(dying, sock))
			;
		close(sock);
	}
	return NULL;
}

static void expect_taken(struct dying *dying, struct keeper *keeper, unsigned deaths,
			 unsigned taken, int expected, int (*run)(struct keeper *))
{
	dying->deaths = deaths;
	dying->taken = 0;
	assert_int_equal(run(keeper), expected);
	assert_int_equal(dying->taken, taken);
}

static int run_is_free(struct keeper *keeper)
{
	return keeper_device_is_free(keeper, C);
}

static int run_hold(struct keeper *keeper)
{
	return keeper_fd_hold(keeper, "acme", "mem.1", STDERR_FILENO);
}

static int run_drop(struct keeper *keeper)
{
	return keeper_fd_drop(keeper, "mem.1");
}

static int run_release(struct keeper *keeper)
{
	const char *const one[] = {C};
	struct keeper_context_id context = {7};

	return keeper_devices_release(keeper, context, one, 1);
}

static int run_close(struct keeper *keeper)
{
	return keeper_context_close(keeper, (struct keeper_context_id){7});
}

static void test_dies_in_a_call(void **state)
{
	struct sockaddr_un own = {.sun_family = AF_UNIX};
	struct dying dying = {.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
	struct keeper *keeper;
	pthread_t thread;

	snprintf(own.sun_path, sizeof(own.sun_path), "%s/dying", fake.root);
	assert_int_equal(bind(dying.listener, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(listen(dying.listener, 8), 0);
	assert_int_equal(pthread_create(&thread, NULL, dying_main, &dying), 0);
	assert_int_equal(keeper_connect(own.sun_path, &keeper), 0);
	/* What may be done twice is asked twice, and not for ever. */
	expect_taken(&dying, keeper, 0, 1, 0, run_is_free);
	expect_taken(&dying, keeper, 1, 2, 0, run_is_free);
	expect_taken(&dying, keeper, 1, 2, 0, run_hold);
	expect_taken(&dying, keeper, 2, 2, -EPIPE, run_is_free);
	/* The others may have been done. */
	expect_taken(&dying, keeper, 1, 1, -EPIPE, run_drop);
	expect_taken(&dying, keeper, 1, 1, -EPIPE, run_release);
	expect_taken(&dying, keeper, 1, 1, -EPIPE, run_close);
	expect_taken(&dying, keeper, 0, 1, 0, run_release);
	keeper_free(keeper);
	shutdown(dying.listener, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(dying.listener);
}

static void expect_malformed(const void *bytes, size_t size, const int *fds, size_t n_fds)
{
	struct keeper_request request = {.op = KEEPER_OP_HELLO};
	uint8_t answer[KEEPER_REPLY_SIZE];
	struct keeper_reply reply;
	int received[WIRE_FDS_MAX], sock = raw_connect();
	size_t n;

	assert_int_equal(wire_send(sock, bytes, size, fds, n_fds), 0);
	assert_int_equal(wire_receive(sock, answer, sizeof(answer), received, &n), sizeof(answer));
	assert_int_equal(keeper_reply_parse(answer, sizeof(answer), n, &request, &reply), 0);
	assert_int_equal(reply.status, -EPROTO);
	/* And then the end. */
	assert_int_equal(wire_receive(sock, answer, sizeof(answer), received, &n), 0);
	close(sock);
}

static void test_malformed(void **state)
{
	struct keeper_request request = {.op = KEEPER_OP_HELLO};
	uint8_t bytes[4096];
	int fds[WIRE_FDS_MAX], fd = -1;
	struct keeper *keeper = client_new();

	memset(bytes, 0xa5, sizeof(bytes));
	expect_malformed(bytes, 1, NULL, 0);
	expect_malformed(bytes, KEEPER_REQUEST_SIZE, NULL, 0);
	expect_malformed(bytes, sizeof(bytes), NULL, 0);
	keeper_request_build(&request, bytes);
	expect_malformed(bytes, KEEPER_REQUEST_SIZE - 1, NULL, 0);
	expect_malformed(bytes, KEEPER_REQUEST_SIZE + 1, NULL, 0);
	/* Surplus fds are closed: the other end of a pipe tells. */
	for (size_t n = 1; n <= WIRE_FDS_MAX; n += 126) {
		struct pollfd polled;
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		for (size_t i = 0; i < n; i++)
			fds[i] = ends[1];
		expect_malformed(bytes, KEEPER_REQUEST_SIZE, fds, n);
		expect_malformed(bytes, KEEPER_REQUEST_SIZE + 1, fds, n);
		close(ends[1]);
		polled.fd = ends[0];
		assert_int_equal(poll(&polled, 1, 5000), 1);
		assert_true(polled.revents & POLLHUP);
		close(ends[0]);
	}
	request = (struct keeper_request){.op = KEEPER_OP_FD_HOLD, .owner = "a", .name = "n"};
	keeper_request_build(&request, bytes);
	fds[0] = fds[1] = 0;
	expect_malformed(bytes, KEEPER_REQUEST_SIZE, fds, 2);
	expect_malformed(bytes, KEEPER_REQUEST_SIZE, fds, 0);
	assert_int_equal(keeper_fd_take(keeper, "n", &fd), KEEPER_E_NOT_FOUND);
	keeper_free(keeper);
}

/* Whoever does not wait for the answer gets nothing that would stay behind. */
static void test_gone_client(void **state)
{
	struct keeper_request request = {.op = KEEPER_OP_CONTEXT_OPEN, .owner = "acme"};
	struct keeper *keeper = client_new();
	struct keeper_context_id context = {0}, next;
	uint8_t bytes[KEEPER_REQUEST_SIZE];
	int fd;

	keeper_request_build(&request, bytes);
	for (int i = 0; i < 20; i++) {
		int sock = raw_connect();

		/* It takes no answer; the request is sent nevertheless. */
		shutdown(sock, SHUT_RD);
		assert_int_equal(wire_send(sock, bytes, sizeof(bytes), NULL, 0), 0);
		close(sock);
	}
	/* Nothing for a while: a request may be read late, and its context is there for a moment.
	 */
	for (int i = 0, none = 0; i < 10000 && none < 200; i++) {
		if (keeper_context_next(keeper, context, &next) == KEEPER_E_NOT_FOUND)
			none++;
		else
			none = 0;
		usleep(1000);
	}
	assert_int_equal(keeper_context_next(keeper, context, &next), KEEPER_E_NOT_FOUND);
	assert_int_equal(keeper_context_open(keeper, "acme", reason, &context, &fd), 0);
	close(fd);
	keeper_free(keeper);
}

static void expect_end(int sock)
{
	char byte;

	assert_int_equal(recv(sock, &byte, 1, 0), 0);
	close(sock);
}

static void test_too_many(void **state)
{
	struct keeper_request request = {.op = KEEPER_OP_HELLO};
	int socks[SERVER_CONNECTIONS_MAX];
	uint8_t bytes[KEEPER_REQUEST_SIZE], answer[KEEPER_REPLY_SIZE];
	int received[WIRE_FDS_MAX];
	size_t n;

	keeper_request_build(&request, bytes);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++) {
			/* The places of the last round are freed as its threads end. */
			for (int tries = 0;; tries++) {
				socks[i] = raw_connect();
				if (wire_send(socks[i], bytes, sizeof(bytes), NULL, 0) == 0 &&
				    wire_receive(socks[i], answer, sizeof(answer), received, &n) >
					    0)
					break;
				assert_true(round && tries < 5000);
				close(socks[i]);
				usleep(1000);
			}
		}
		expect_end(raw_connect());
		expect_end(raw_connect());
		wire_close(socks, SERVER_CONNECTIONS_MAX);
	}
}

/* Another user, where the tests may become one. */
static void test_peer(void **state)
{
	int status;
	pid_t child;

	if (geteuid() != 0)
		skip();
	server_end();
	config.client = 4321;
	server_start();
	for (uid_t uid = 4320; uid <= 4322; uid++) {
		child = fork();
		if (child == 0) {
			struct keeper *keeper;
			int r;

			if (setresuid(uid, uid, uid))
				_exit(1);
			r = keeper_connect(address.sun_path, &keeper);
			_exit(uid == 4321 ? r != 0 : r != -EPIPE);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	keeper_free(client_new());
}

static void *hammer(void *arg)
{
	struct keeper *keeper = arg;
	char mine[KEEPER_REASON_MAX];
	const char *const device[] = {C};

	for (int i = 0; i < 30; i++) {
		struct keeper_context_id context;
		int fd, r = keeper_context_open(keeper, "acme", mine, &context, &fd);

		assert_int_equal(r, 0);
		close(fd);
		r = keeper_devices_claim(keeper, context, device, 1, mine, &fd);
		assert_true(r == 0 || r == KEEPER_E_BUSY);
		if (!r)
			close(fd);
		assert_int_equal(keeper_context_close(keeper, context), 0);
	}
	return NULL;
}

/* More threads than the pool has connections. */
static void test_pool(void **state)
{
	struct keeper *keeper = client_new();
	pthread_t threads[40];

	for (size_t i = 0; i < 40; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, keeper), 0);
	for (size_t i = 0; i < 40; i++)
		pthread_join(threads[i], NULL);
	keeper_free(keeper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delegate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_find_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_without_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dies_in_a_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pool, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
