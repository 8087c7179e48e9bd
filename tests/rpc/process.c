/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with a device in its own address space (kind PROCESS, libioasid's service thread),
 * for support/process.py: it opens a lease, claims the device, and then does what it is told,
 * a line of standard input at a time, each with one line of answer.  Its memory is PAGES pages
 * with bytes of a known pattern.
 *
 * It starts as root, to get a userfaultfd where only root may have one, and then becomes the
 * tenant.
 *
 * usage: ioasid_rpc_process UID LEASE DEVICE    (LEASE "": that of the connection)
 *
 *   read OFFSET LENGTH    the device reads: CAUSE DONE HEX
 *   write OFFSET HEX      the device writes: CAUSE DONE
 *   peek OFFSET LENGTH    what the CPU sees: HEX
 *   protect PAGE none|read|write
 *   missing PAGE          under userfaultfd, and gone: nobody resolves its fault
 *   resolve PAGE          it is there, with zeros
 *   service               is the service running, and how often was the broker restarted
 *   exec PATH ARGUMENT
 *   exit
 *
 * An answer "error TEXT" says that the call was refused.
 */
#include <ioasid.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE   4096ul
#define PAGES  8ul
#define LENGTH (PAGES * PAGE)

static struct {
	struct ioasid_client *client;
	struct ioasid_service *service;
	struct ioasid_scope scope;
	const char *device;
	uint8_t *memory;
	int faults; /* userfaultfd; -1: this process may have none */
} program;

static int say(const char *text)
{
	return puts(text) < 0 || fflush(stdout) ? -1 : 0;
}

static int say_error(struct ioasid_error *error)
{
	int r;

	printf("error %s %s\n", error->reason, error->message);
	r = fflush(stdout) ? -1 : 0;
	ioasid_error_free(error);
	return r;
}

static void put_hex(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("%02x", bytes[i]);
	putchar('\n');
	fflush(stdout);
}

static size_t get_hex(const char *text, uint8_t *ret_bytes, size_t room)
{
	size_t n = 0;
	unsigned int byte;

	while (n < room && sscanf(text + 2 * n, "%2x", &byte) == 1)
		ret_bytes[n++] = (uint8_t)byte;
	return n;
}

/* ---- commands ---- */

static int device_reads(const char *rest)
{
	static uint8_t bytes[LENGTH];
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	size_t offset, length;

	if (sscanf(rest, "%zu %zu", &offset, &length) != 2 || length > sizeof(bytes))
		return say("error usage");
	if (ioasid_dma_read(program.client, &program.scope, program.device, IOASID_NO_PASID,
			    (uintptr_t)program.memory + offset, bytes, length, &result, &error) < 0)
		return say_error(error);
	printf("%d %" PRIu64 " ", result->fault ? (int)result->fault->cause : 0,
	       (uint64_t)result->done);
	put_hex(bytes, result->done);
	ioasid_dma_result_free(result);
	return 0;
}

static int device_writes(const char *rest)
{
	static uint8_t bytes[LENGTH];
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	size_t offset, length;
	int at;

	if (sscanf(rest, "%zu %n", &offset, &at) != 1)
		return say("error usage");
	length = get_hex(rest + at, bytes, sizeof(bytes));
	if (ioasid_dma_write(program.client, &program.scope, program.device, IOASID_NO_PASID,
			     (uintptr_t)program.memory + offset, bytes, length, &result,
			     &error) < 0)
		return say_error(error);
	printf("%d %" PRIu64 "\n", result->fault ? (int)result->fault->cause : 0,
	       (uint64_t)result->done);
	ioasid_dma_result_free(result);
	return fflush(stdout) ? -1 : 0;
}

static int peek(const char *rest)
{
	size_t offset, length;

	if (sscanf(rest, "%zu %zu", &offset, &length) != 2 || offset + length > LENGTH)
		return say("error usage");
	put_hex(program.memory + offset, length);
	return 0;
}

static int protect(const char *rest)
{
	char word[8];
	size_t page;
	int prot;

	if (sscanf(rest, "%zu %7s", &page, word) != 2 || page >= PAGES)
		return say("error usage");
	prot = !strcmp(word, "none")   ? PROT_NONE
	       : !strcmp(word, "read") ? PROT_READ
				       : PROT_READ | PROT_WRITE;
	return say(mprotect(program.memory + page * PAGE, PAGE, prot) ? strerror(errno) : "ok");
}

static int missing(const char *rest)
{
	size_t page = strtoul(rest, NULL, 10);
	struct uffdio_register range = {
		.range = {(uintptr_t)program.memory + page * PAGE, PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (program.faults < 0 || page >= PAGES)
		return say("error no userfaultfd");
	if (ioctl(program.faults, UFFDIO_REGISTER, &range) ||
	    madvise(program.memory + page * PAGE, PAGE, MADV_DONTNEED))
		return say(strerror(errno));
	return say("ok");
}

static int resolve(const char *rest)
{
	size_t page = strtoul(rest, NULL, 10);
	struct uffdio_zeropage zero = {
		.range = {(uintptr_t)program.memory + page * PAGE, PAGE},
	};

	return say(ioctl(program.faults, UFFDIO_ZEROPAGE, &zero) ? strerror(errno) : "ok");
}

static int service(const char *rest)
{
	printf("%d %" PRIu64 "\n", ioasid_service_is_running(program.service),
	       ioasid_client_restarts(program.client));
	return fflush(stdout) ? -1 : 0;
}

static int execute(const char *rest)
{
	char path[4000], argument[64];

	if (sscanf(rest, "%3999s %63s", path, argument) == 2)
		execl(path, path, argument, NULL);
	return say(strerror(errno));
}

static int leave(const char *rest)
{
	_exit(0);
}

static const struct {
	const char *word;
	int (*run)(const char *rest);
} commands[] = {
	{"read", device_reads}, {"write", device_writes}, {"peek", peek},
	{"protect", protect},	{"missing", missing},	  {"resolve", resolve},
	{"service", service},	{"exec", execute},	  {"exit", leave},
};

static int obey(char *line)
{
	char *rest = line + strcspn(line, " ");

	if (*rest)
		*rest++ = '\0';
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(line, commands[i].word))
			return commands[i].run(rest);
	return say("error no such command");
}

/* ---- the start ---- */

static int open_faults(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int become(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		return -1;
	/* Nobody is left to end it. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static int own_device(struct ioasid_error **ret_error)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_PROCESS,
		.n_devices = 1,
		.devices = &program.device,
	};
	uint8_t secret[IOASID_LEASE_SECRET_SIZE] = {0};
	uint64_t space;

	if (ioasid_connect(NULL, NULL, &program.client, ret_error) < 0)
		return -1;
	if (program.scope.lease && ioasid_lease_open(program.client, NULL, program.scope.lease, 60,
						     -1, secret, ret_error) < 0)
		return -1;
	if (ioasid_claim(program.client, &program.scope, &program.device, 1, NULL, ret_error) < 0 ||
	    ioasid_service_start(program.client, &program.scope, &program.service, ret_error) < 0 ||
	    ioasid_alloc(program.client, &program.scope, &request, &space, NULL, ret_error) < 0 ||
	    ioasid_attach(program.client, &program.scope, program.device, IOASID_NO_PASID, space,
			  ret_error) < 0)
		return -1;
	printf("%" PRIu64 " ", (uint64_t)(uintptr_t)program.memory);
	put_hex(secret, sizeof(secret));
	return 0;
}

int main(int argc, char **argv)
{
	struct ioasid_error *error;
	char line[2 * LENGTH + 64];

	if (argc != 4)
		return 2;
	program.faults = open_faults();
	if (become((uid_t)strtoul(argv[1], NULL, 10)))
		return 2;
	program.scope.lease = *argv[2] ? argv[2] : NULL;
	program.device = argv[3];
	program.memory =
		mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (program.memory == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < LENGTH; i++)
		program.memory[i] = (uint8_t)(i * 7 + i / PAGE);
	if (own_device(&error)) {
		say_error(error);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (obey(line))
			break;
	}
	ioasid_service_stop(program.service);
	ioasid_client_unref(program.client);
	return 0;
}
