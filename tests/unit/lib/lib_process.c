/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kind PROCESS, with libioasid's service thread and a real broker, which $IOASID_SOCKET names:
 * DMA into a live process, both ways; pages that are read-only, not there, or never resolved
 * (userfaultfd); and processes that exit, exec, exec a setuid program, leave a child behind or
 * are stopped.
 *
 * Who dies holds a named lease; another process adopts it and looks at what its device can
 * still do.  This process itself never starts gRPC, so that it may fork.
 *
 * usage: ioasid_lib_process [--sleep]
 */
#include <ioasid.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEVICE "0000:01:00.0"
#define PAGE   4096ul

static const char *self;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static struct ioasid_error *error;

#define OK(call)                                                                                   \
	do {                                                                                       \
		if (call) {                                                                        \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,              \
				error->message);                                                   \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- a process with a service, a space and a device in it ---- */

struct owner {
	struct ioasid_client *client;
	struct ioasid_service *service;
	struct ioasid_scope scope;
};

static void owner_open(struct owner *o, const char *lease, uint8_t *ret_secret)
{
	const struct ioasid_alloc_request request = {.kind = IOASID_KIND_PROCESS};
	const char *device = DEVICE;
	struct ioasid_devices *devices;
	uint64_t space;

	memset(o, 0, sizeof(*o));
	o->scope.lease = lease;
	OK(ioasid_connect(NULL, NULL, &o->client, &error));
	if (lease)
		OK(ioasid_lease_open(o->client, NULL, lease, 30, -1, ret_secret, &error));
	OK(ioasid_claim(o->client, &o->scope, &device, 1, &devices, &error));
	ioasid_devices_free(devices);
	OK(ioasid_service_start(o->client, &o->scope, &o->service, &error));
	OK(ioasid_alloc(o->client, &o->scope, &request, &space, NULL, &error));
	OK(ioasid_attach(o->client, &o->scope, DEVICE, IOASID_NO_PASID, space, &error));
}

static void owner_close(struct owner *o)
{
	CHECK(!ioasid_service_stop(o->service));
	ioasid_client_unref(o->client);
}

/* The fault's cause, 0: none; *ret_done bytes moved. */
static unsigned int dma(struct owner *o, bool write, const void *at, void *bytes, size_t length,
			size_t *ret_done)
{
	struct ioasid_dma_result *result;
	unsigned int cause;

	if (write)
		OK(ioasid_dma_write(o->client, &o->scope, DEVICE, IOASID_NO_PASID, (uintptr_t)at,
				    bytes, length, &result, &error));
	else
		OK(ioasid_dma_read(o->client, &o->scope, DEVICE, IOASID_NO_PASID, (uintptr_t)at,
				   bytes, length, &result, &error));
	cause = result->fault ? result->fault->cause : 0;
	*ret_done = result->done;
	ioasid_dma_result_free(result);
	return cause;
}

static uint8_t *pages(size_t n, int prot)
{
	uint8_t *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* ---- one process ---- */

static void test_live(void)
{
	static uint8_t bytes[64 * PAGE], back[64 * PAGE];
	uint8_t *memory = pages(64, PROT_READ | PROT_WRITE);
	struct owner o;
	size_t done;

	owner_open(&o, NULL, NULL);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / PAGE);
	CHECK(dma(&o, true, memory + 100, bytes, 50 * PAGE, &done) == 0 && done == 50 * PAGE);
	CHECK(!memcmp(memory + 100, bytes, 50 * PAGE) && memory[99] == 0);
	memory[100] = 0;
	CHECK(dma(&o, false, memory + 100, back, 50 * PAGE, &done) == 0);
	CHECK(back[0] == 0 && !memcmp(back + 1, bytes + 1, 50 * PAGE - 1));
	/* The heap, the stack, a page that nobody has touched yet. */
	CHECK(dma(&o, true, &done, &(size_t){4711}, sizeof(done), &(size_t){0}) == 0 &&
	      done == 4711);
	CHECK(dma(&o, true, memory + 60 * PAGE, bytes, 1, &done) == 0 && done == 1);
	owner_close(&o);
}

static void test_pages(void)
{
	uint8_t *memory = pages(4, PROT_READ | PROT_WRITE), byte = 1;
	char digits[] = "0123456789";
	struct owner o;
	size_t done;

	owner_open(&o, NULL, NULL);
	memset(memory, 9, 4 * PAGE);
	CHECK(!mprotect(memory + PAGE, PAGE, PROT_READ));
	CHECK(!munmap(memory + 2 * PAGE, PAGE));
	CHECK(!mprotect(memory + 3 * PAGE, PAGE, PROT_NONE));
	CHECK(dma(&o, false, memory, memory, 1, &done) == 0);
	CHECK(dma(&o, false, memory + PAGE, &byte, 1, &done) == 0 && byte == 9);
	CHECK(dma(&o, true, memory + PAGE, &byte, 1, &done) == IOASID_FAULT_PERMISSION && !done);
	CHECK(dma(&o, true, memory + PAGE - 5, digits, 10, &done) == IOASID_FAULT_PERMISSION &&
	      done == 5 && !memcmp(memory + PAGE - 5, "01234\t", 6));
	for (int write = 0; write < 2; write++)
		for (int page = 2; page < 4; page++)
			CHECK(dma(&o, write, memory + page * PAGE, &byte, 1, &done) ==
				      IOASID_FAULT_NOT_PRESENT &&
			      !done);
	CHECK(dma(&o, false, NULL, &byte, 1, &done) == IOASID_FAULT_NOT_PRESENT);
	CHECK(dma(&o, false, (void *)(1ul << 63), &byte, 1, &done) == IOASID_FAULT_NOT_PRESENT);
	/* Program text: there, and not to be written. */
	CHECK(dma(&o, true, (void *)(uintptr_t)test_live, &byte, 1, &done) ==
	      IOASID_FAULT_PERMISSION);
	/* Mapped again, it is there again. */
	CHECK(mmap(memory + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory + 2 * PAGE);
	CHECK(dma(&o, true, memory + 2 * PAGE, &byte, 1, &done) == 0 && memory[2 * PAGE] == byte);
	CHECK(ioasid_service_is_running(o.service));
	owner_close(&o);
}

static int userfault(uint8_t *page)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {
		.range = {(uintptr_t)page, PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == EPERM)
		return -1;
	CHECK(fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &range));
	return fd;
}

/* The thread waits for a page; the broker and the rest of this process do not. */
static void test_page_that_never_resolves(void)
{
	uint8_t *memory = pages(2, PROT_READ | PROT_WRITE), byte = 0;
	int fd = userfault(memory);
	struct ioasid_server_status *status;
	struct owner o;
	double began;
	size_t done;

	if (fd < 0) {
		printf("userfaultfd is not permitted here\n");
		return;
	}
	owner_open(&o, NULL, NULL);
	memory[PAGE] = 3;
	began = now();
	CHECK(dma(&o, false, memory, &byte, 1, &done) == IOASID_FAULT_MEMORY_ERROR && !done);
	CHECK(now() - began > 0.9 && now() - began < 8);
	began = now();
	for (int i = 0; i < 20; i++) {
		OK(ioasid_server_status(o.client, NULL, &status, &error));
		ioasid_server_status_free(status);
	}
	CHECK(now() - began < 2);
	CHECK(dma(&o, false, memory + PAGE, &byte, 1, &done) == IOASID_FAULT_MEMORY_ERROR);
	/* Resolved at last: the thread goes on, and what it answers late harms nobody. */
	CHECK(!ioctl(fd, UFFDIO_ZEROPAGE,
		     &(struct uffdio_zeropage){.range = {(uintptr_t)memory, PAGE}}));
	while (dma(&o, false, memory + PAGE, &byte, 1, &done))
		CHECK(now() - began < 20);
	CHECK(byte == 3);
	/* Never resolved: stopping waits no longer than it says. */
	CHECK(!madvise(memory, PAGE, MADV_DONTNEED));
	CHECK(dma(&o, false, memory, &byte, 1, &done) == IOASID_FAULT_MEMORY_ERROR);
	began = now();
	owner_close(&o);
	CHECK(now() - began < 8);
}

struct mapper {
	uint8_t *memory;
	atomic_bool stop;
};

/*
 * Other threads map and unmap under the accesses.  Unmapped is unreachable here: an address that
 * is free could be another thread's at once.
 */
static void *map_and_unmap(void *data)
{
	struct mapper *m = data;

	while (!m->stop) {
		CHECK(mmap(m->memory, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			   -1, 0) == m->memory);
		CHECK(mmap(m->memory, 4 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == m->memory);
		CHECK(!mprotect(m->memory, 2 * PAGE, PROT_READ));
	}
	return NULL;
}

static void test_maps_that_change(void)
{
	static uint8_t bytes[4 * PAGE];
	struct mapper m = {.memory = pages(4, PROT_READ | PROT_WRITE)};
	unsigned int seen = 0;
	pthread_t thread;
	struct owner o;
	size_t done;

	owner_open(&o, NULL, NULL);
	CHECK(!pthread_create(&thread, NULL, map_and_unmap, &m));
	for (int i = 0; i < 300; i++)
		seen |= 1u << dma(&o, i % 2, m.memory, bytes, sizeof(bytes), &done);
	m.stop = true;
	pthread_join(thread, NULL);
	CHECK(!(seen &
		~(1u << 0 | 1u << IOASID_FAULT_NOT_PRESENT | 1u << IOASID_FAULT_PERMISSION)));
	CHECK(ioasid_service_is_running(o.service));
	owner_close(&o);
}

/* What a child inherits is not its to end. */
static void test_child_that_stops_it(void)
{
	uint8_t byte = 0, mine = 5;
	struct owner o;
	size_t done;
	int status;
	pid_t pid;

	owner_open(&o, NULL, NULL);
	pid = fork();
	if (!pid) {
		ioasid_service_stop(o.service);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(dma(&o, false, &mine, &byte, 1, &done) == 0 && byte == 5);
	owner_close(&o);
}

static void test_end_of_the_lease(void)
{
	struct owner o;
	double began;

	owner_open(&o, NULL, NULL);
	OK(ioasid_lease_close(o.client, NULL, &error));
	for (began = now(); ioasid_service_is_running(o.service); usleep(1000))
		CHECK(now() - began < 10);
	owner_close(&o);
}

/* ---- two processes: who goes, and who looks ---- */

static void do_exit(const struct owner *o)
{
	_exit(0);
}

static void do_exec(const struct owner *o)
{
	execl(self, self, "--sleep", NULL);
	_exit(1);
}

static void do_exec_setuid(const struct owner *o)
{
	execl("setuid-sleep", "setuid-sleep", "--sleep", NULL);
	_exit(1);
}

/* A child lives on, with the socket. */
static void do_leave_child(const struct owner *o)
{
	if (!fork()) {
		sleep(5);
		_exit(0);
	}
	_exit(0);
}

/* The device of the lease: until it is blocked for good. */
static void look(const uint8_t *secret, uintptr_t address)
{
	struct owner o = {.scope.lease = "kept"};
	double began = now();
	uint8_t byte;
	size_t done;

	OK(ioasid_connect(NULL, NULL, &o.client, &error));
	while (ioasid_lease_adopt(o.client, NULL, "kept", secret, &error)) {
		ioasid_error_free(error);
		CHECK(now() - began < 10);
		usleep(1000);
	}
	began = now();
	while (dma(&o, false, (void *)address, &byte, 1, &done) != IOASID_FAULT_NOT_ATTACHED)
		CHECK(now() - began < 10);
	CHECK(!done);
	OK(ioasid_lease_close(o.client, &o.scope, &error));
	ioasid_client_unref(o.client);
	_exit(0);
}

struct message {
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	uintptr_t address;
};

static void test_one_that_goes(void (*go)(const struct owner *o))
{
	struct message message;
	int pipes[2], status;
	pid_t owner, heir;

	CHECK(!pipe2(pipes, O_CLOEXEC));
	owner = fork();
	if (!owner) {
		uint8_t byte = 0, mine = 5;
		struct owner o;
		size_t done;

		owner_open(&o, "kept", message.secret);
		CHECK(dma(&o, false, &mine, &byte, 1, &done) == 0 && byte == 5);
		message.address = (uintptr_t)&mine;
		CHECK(write(pipes[1], &message, sizeof(message)) == sizeof(message));
		go(&o);
		_exit(1);
	}
	heir = fork();
	if (!heir) {
		alarm(60);
		close(pipes[1]);
		CHECK(read(pipes[0], &message, sizeof(message)) == sizeof(message));
		look(message.secret, message.address);
	}
	close(pipes[0]);
	close(pipes[1]);
	CHECK(waitpid(heir, &status, 0) == heir && status == 0);
	kill(owner, SIGKILL);
	CHECK(waitpid(owner, &status, 0) == owner);
	CHECK(go == do_exec || go == do_exec_setuid ? WIFSIGNALED(status)
						    : WIFEXITED(status) && !WEXITSTATUS(status));
}

/* Stopped with an access under way: another process of the tenant notices nothing. */
static void test_stopped(void)
{
	int pipes[2], status;
	pid_t owner, other;
	uint8_t byte = 0;

	CHECK(!pipe2(pipes, O_CLOEXEC));
	owner = fork();
	if (!owner) {
		uint8_t mine = 5;
		struct owner o;
		size_t done;

		owner_open(&o, NULL, NULL);
		CHECK(write(pipes[1], &byte, 1) == 1);
		/* Stopped somewhere in here; then as before. */
		for (double began = now(); now() - began < 8;) {
			unsigned int cause = dma(&o, false, &mine, &byte, 1, &done);

			CHECK(!cause || cause == IOASID_FAULT_MEMORY_ERROR);
		}
		CHECK(dma(&o, false, &mine, &byte, 1, &done) == 0 && byte == 5);
		owner_close(&o);
		_exit(0);
	}
	other = fork();
	if (!other) {
		struct ioasid_server_status *answer;
		struct ioasid_client *client;
		double began;

		OK(ioasid_connect(NULL, NULL, &client, &error));
		CHECK(read(pipes[0], &byte, 1) == 1);
		CHECK(!kill(owner, SIGSTOP));
		for (began = now(); now() - began < 6;) {
			double once = now();

			OK(ioasid_server_status(client, NULL, &answer, &error));
			ioasid_server_status_free(answer);
			/* Not as long as the other is stopped, however busy the machine is. */
			CHECK(now() - once < 4);
		}
		CHECK(!kill(owner, SIGCONT));
		ioasid_client_unref(client);
		_exit(0);
	}
	CHECK(waitpid(other, &status, 0) == other);
	if (status)
		kill(owner, SIGKILL);
	CHECK(status == 0);
	CHECK(waitpid(owner, &status, 0) == owner && status == 0);
}

/* ---- all ---- */

static bool run(const char *name, void (*test)(void))
{
	pid_t pid = fork();
	int status = 1;

	if (!pid) {
		alarm(60);
		test();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	printf("%s: %s\n", name, status ? "FAILED" : "ok");
	return status == 0;
}

static void test_exit(void)
{
	test_one_that_goes(do_exit);
}
static void test_exec(void)
{
	test_one_that_goes(do_exec);
}
static void test_child_left(void)
{
	test_one_that_goes(do_leave_child);
}

static int copy_of_self(const char *to)
{
	char command[8192];

	snprintf(command, sizeof(command), "cp '%s' '%s'", self, to);
	return system(command);
}

/* Another user's, where this one can make it. */
static void test_exec_setuid(void)
{
	char folder[] = "/tmp/ioasid-setuid-XXXXXX";
	struct stat st;
	bool made;

	CHECK(mkdtemp(folder) && !chdir(folder) && !copy_of_self("setuid-sleep"));
	made = !chown("setuid-sleep", 65534, 65534) && !chmod("setuid-sleep", 06755) &&
	       !stat("setuid-sleep", &st) && st.st_mode & S_ISUID;
	if (made)
		test_one_that_goes(do_exec_setuid);
	else
		printf("a setuid program cannot be made here\n");
	unlink("setuid-sleep");
	CHECK(!chdir("/") && !rmdir(folder));
}

int main(int argc, char **argv)
{
	bool good = true;

	self = realpath("/proc/self/exe", NULL);
	if (argc > 1) {
		sleep(20);
		return 0;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	good &= run("both ways", test_live);
	good &= run("pages", test_pages);
	good &= run("a page that never resolves", test_page_that_never_resolves);
	good &= run("maps that change", test_maps_that_change);
	good &= run("a child that stops it", test_child_that_stops_it);
	good &= run("the end of the lease", test_end_of_the_lease);
	good &= run("exit", test_exit);
	good &= run("exec", test_exec);
	good &= run("exec of a setuid program", test_exec_setuid);
	good &= run("a child that is left", test_child_left);
	good &= run("stopped", test_stopped);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
