/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile neighbours for P8: each a process of another tenant that does its worst until it
 * is killed.  "busy loop" is no client at all: what it costs is the machine's, since there
 * are few CPUs, and the others are to be read against it.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The preface, and an empty SETTINGS frame. */
static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
#define PREFACE_SIZE (sizeof(preface) - 1)

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void run_busy(const char *socket)
{
	static volatile unsigned turns;

	for (;;)
		turns++;
}

/* 64 calls outstanding, for ever. */
static void run_flooder(const char *socket)
{
	struct client client;

	grpc_init();
	client_open(&client, socket, 0);
	client_run(&client, &workload_alloc_free, 64, 1e9, 0);
}

static void run_big(const char *socket)
{
	struct client client;

	grpc_init();
	client_open(&client, socket, 0);
	client_run(&client, &workload_big, 8, 1e9, 0);
}

/* ---- by hand, since gRPC's client would not do it ---- */

struct frames {
	uint8_t bytes[512];
	size_t size;
};

static void frame_begin(struct frames *frames, uint32_t length, uint8_t type, uint8_t flags,
			uint32_t stream)
{
	uint8_t *at = frames->bytes + frames->size;

	at[0] = length >> 16;
	at[1] = length >> 8;
	at[2] = length;
	at[3] = type;
	at[4] = flags;
	at[5] = stream >> 24;
	at[6] = stream >> 16;
	at[7] = stream >> 8;
	at[8] = stream;
	frames->size += 9;
}

static size_t header(uint8_t *to, const char *name, const char *value)
{
	size_t n_name = strlen(name), n_value = strlen(value);

	/* Literal, never indexed, no Huffman code. */
	to[0] = 0x10;
	to[1] = n_name;
	memcpy(to + 2, name, n_name);
	to[2 + n_name] = n_value;
	memcpy(to + 3 + n_name, value, n_value);
	return 3 + n_name + n_value;
}

/* HEADERS, one empty message, the end; then RST_STREAM, so that no limit of streams holds. */
static void stream_build(struct frames *frames, uint32_t stream, const char *path, bool reset)
{
	uint8_t block[256];
	size_t n = 0;

	n += header(block + n, ":method", "POST");
	n += header(block + n, ":scheme", "http");
	n += header(block + n, ":path", path);
	n += header(block + n, ":authority", "x");
	n += header(block + n, "te", "trailers");
	n += header(block + n, "content-type", "application/grpc");
	frames->size = 0;
	frame_begin(frames, n, 1, 4, stream);
	memcpy(frames->bytes + frames->size, block, n);
	frames->size += n;
	frame_begin(frames, 5, 0, 1, stream);
	memset(frames->bytes + frames->size, 0, 5);
	frames->size += 5;
	if (!reset)
		return;
	frame_begin(frames, 4, 3, 0, stream);
	memcpy(frames->bytes + frames->size, "\0\0\0\10", 4);
	frames->size += 4;
}

/* Writes requests and never reads a byte; waits when the server takes no more. */
static void write_streams(const char *path, bool reset)
{
	for (;;) {
		int fd = connect_to(path);
		struct frames frames;

		if (fd < 0 || write(fd, preface, PREFACE_SIZE) < 0) {
			close(fd);
			continue;
		}
		for (uint32_t stream = 1; stream < 1u << 30; stream += 2) {
			stream_build(&frames, stream, "/ioasid.v1.Broker/ListDevices", reset);
			if (send(fd, frames.bytes, frames.size, MSG_NOSIGNAL) < 0)
				break;
		}
		close(fd);
	}
}

static void run_non_reader(const char *socket)
{
	write_streams(socket, false);
}

static void run_resetter(const char *socket)
{
	write_streams(socket, true);
}

static void run_garbage(const char *path)
{
	uint8_t bytes[4096];
	unsigned n = 0;

	for (;;) {
		int fd = connect_to(path);

		if (fd < 0)
			continue;
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = rand() >> 7;
		/* Three in four begin as they should. */
		if (n++ % 4 && send(fd, preface, PREFACE_SIZE, MSG_NOSIGNAL) < 0)
			n++;
		if (send(fd, bytes, 1 + rand() % sizeof(bytes), MSG_NOSIGNAL) < 0)
			n++;
		close(fd);
	}
}

/* Opens connections that speak, holds a thousand, drops the oldest. */
static void run_opener(const char *path)
{
	static int fds[1000];
	unsigned n = 0;

	memset(fds, -1, sizeof(fds));
	for (;;) {
		int *slot = &fds[n++ % 1000];

		if (*slot >= 0)
			close(*slot);
		*slot = connect_to(path);
		if (*slot >= 0 && send(*slot, preface, PREFACE_SIZE, MSG_NOSIGNAL) < 0) {
			close(*slot);
			*slot = -1;
		}
	}
}

/* Opens connections that say nothing. */
static void run_silent(const char *path)
{
	static int fds[1000];
	unsigned n = 0;

	memset(fds, -1, sizeof(fds));
	for (;;) {
		int *slot = &fds[n++ % 1000];

		if (*slot >= 0)
			close(*slot);
		*slot = connect_to(path);
	}
}

const struct neighbour neighbours[] = {
	{"busy loop (no client)", run_busy},
	{"flooder, 64 calls", run_flooder},
	{"big map and DMA", run_big},
	{"non-reader", run_non_reader},
	{"stream resetter", run_resetter},
	{"garbage sender", run_garbage},
	{"connection opener", run_opener},
	{"silent connections", run_silent},
	{NULL, NULL},
};

#define NEIGHBOURS_MAX 16

static struct {
	pid_t pid;
	int start; /* a byte lets it begin */
} prepared[NEIGHBOURS_MAX];

static void __attribute__((noreturn))
neighbour_main(const struct neighbour *neighbour, int start, const char *socket)
{
	uid_t uid = neighbour_uid();
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid != getuid() && (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0))
		die("cannot become uid %u", uid);
	if (read(start, &byte, 1) == 1)
		neighbour->run(socket);
	_exit(0);
}

void neighbours_prepare(const char *socket)
{
	fflush(stdout);
	for (size_t i = 0; neighbours[i].name; i++) {
		int ends[2];

		if (i == NEIGHBOURS_MAX || pipe2(ends, O_CLOEXEC) < 0)
			die("too many neighbours");
		prepared[i].start = ends[1];
		prepared[i].pid = fork();
		if (prepared[i].pid < 0)
			die("fork");
		if (prepared[i].pid == 0) {
			/* Else it would hold the others' pipes open. */
			for (size_t k = 0; k <= i; k++)
				close(prepared[k].start);
			neighbour_main(&neighbours[i], ends[0], socket);
		}
		close(ends[0]);
	}
}

void neighbour_start(size_t index)
{
	if (write(prepared[index].start, "x", 1) != 1)
		die("%s is not there", neighbours[index].name);
}

void neighbour_stop(size_t index)
{
	pid_t pid = prepared[index].pid;
	int status;

	if (waitpid(pid, &status, WNOHANG) == pid) {
		fprintf(stderr, "%s ended by itself, status %x\n", neighbours[index].name, status);
		return;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}
