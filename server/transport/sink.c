/* SPDX-License-Identifier: Apache-2.0 */
/* Lossy lines through a ring and a thread; what it promises is in sink.h. */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define GATHER_MS 20
#define CHUNK	  65536
/* poll(2) promises room for this many bytes in a pipe that it calls writable. */
#define PIECE	4096
#define LAST_MS 1000

struct sink {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	pthread_t thread;
	bool has_thread;
	enum sink_form form;
	char *path; /* NULL: fd is not ours */

	/* Under the lock. */
	char *ring;
	size_t capacity;
	size_t start;
	size_t used;
	uint64_t lost; /* since the start */
	uint64_t lost_unreported;
	bool stopping;
	bool reopen;
	bool idle; /* the writer waits and wants a signal */

	/* The writer's. */
	int fd;
	int64_t last; /* when it gives up, monotonic ms; 0: not stopping */
	char chunk[CHUNK];
};

static int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int sink_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		      0640);

	return fd < 0 ? -errno : fd;
}

/* A line is one line, whatever text a client brought into it. */
static void copy_clean(char *to, const char *from, size_t n, char instead)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = from[i];

		to[i] = c < 0x20 || c == 0x7f ? instead : c;
	}
}

/* Copies a line to the end of the ring, which has room for it and its newline. */
static void ring_append(struct sink *sink, const char *line, size_t n)
{
	char instead = sink->form == SINK_JSON ? ' ' : '?';
	size_t end = (sink->start + sink->used) % sink->capacity;
	size_t first = sink->capacity - end < n ? sink->capacity - end : n;

	copy_clean(sink->ring + end, line, first, instead);
	copy_clean(sink->ring, line + first, n - first, instead);
	sink->used += n;
}

static void ring_end_line(struct sink *sink)
{
	sink->ring[(sink->start + sink->used) % sink->capacity] = '\n';
	sink->used++;
}

static char ring_at(const struct sink *sink, size_t offset)
{
	return sink->ring[(sink->start + offset) % sink->capacity];
}

/* As many whole lines as a chunk holds; the lock is held. */
static size_t ring_take(struct sink *sink)
{
	size_t n = sink->used < CHUNK ? sink->used : CHUNK;
	size_t first;

	while (n && ring_at(sink, n - 1) != '\n')
		n--;
	first = sink->capacity - sink->start < n ? sink->capacity - sink->start : n;
	memcpy(sink->chunk, sink->ring + sink->start, first);
	memcpy(sink->chunk + first, sink->ring, n - first);
	sink->start = (sink->start + n) % sink->capacity;
	sink->used -= n;
	return n;
}

static bool sink_is_stopping(struct sink *sink)
{
	bool stopping;

	pthread_mutex_lock(&sink->lock);
	stopping = sink->stopping;
	pthread_mutex_unlock(&sink->lock);
	return stopping;
}

/* Writes a chunk; what cannot be written is lost and counted. */
static void sink_write(struct sink *sink, const char *bytes, size_t n)
{
	uint64_t lost = 0;

	while (n) {
		struct pollfd poller = {.fd = sink->fd, .events = POLLOUT};
		ssize_t done = 0;

		/* A reader that stalls for good must not keep the server from ending. */
		if (!sink->last && sink_is_stopping(sink))
			sink->last = monotonic_ms() + LAST_MS;
		if (sink->last && monotonic_ms() >= sink->last)
			break;
		if (poll(&poller, 1, 200) <= 0)
			continue;
		done = write(sink->fd, bytes, n < PIECE ? n : PIECE);
		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (done < 0)
			break;
		bytes += done;
		n -= done;
	}
	for (size_t i = 0; i < n; i++)
		lost += bytes[i] == '\n';
	if (!lost)
		return;
	pthread_mutex_lock(&sink->lock);
	sink->lost += lost;
	sink->lost_unreported += lost;
	pthread_mutex_unlock(&sink->lock);
}

static void *sink_main(void *userdata)
{
	struct sink *sink = userdata;

	pthread_mutex_lock(&sink->lock);
	for (;;) {
		bool reopen;
		size_t n;

		sink->idle = true;
		while (!sink->used && !sink->stopping && !sink->reopen)
			pthread_cond_wait(&sink->wanted, &sink->lock);
		sink->idle = false;
		if (!sink->used && sink->stopping)
			break;
		if (!sink->stopping && !sink->reopen && sink->used < sink->capacity / 2) {
			struct timespec gather = {.tv_nsec = GATHER_MS * 1000000L};

			pthread_mutex_unlock(&sink->lock);
			nanosleep(&gather, NULL);
			pthread_mutex_lock(&sink->lock);
		}
		reopen = sink->reopen;
		sink->reopen = false;
		/* What came before the rotation belongs in the old file. */
		n = ring_take(sink);
		pthread_mutex_unlock(&sink->lock);

		sink_write(sink, sink->chunk, n);
		if (reopen && sink->path) {
			int fd = sink_open(sink->path);

			/* The old file is better than none. */
			if (fd >= 0) {
				close(sink->fd);
				sink->fd = fd;
			}
		}
		pthread_mutex_lock(&sink->lock);
	}
	pthread_mutex_unlock(&sink->lock);
	return NULL;
}

static void sink_destroy(struct sink *sink)
{
	pthread_cond_destroy(&sink->wanted);
	pthread_mutex_destroy(&sink->lock);
	if (sink->path && sink->fd >= 0)
		close(sink->fd);
	free(sink->path);
	free(sink->ring);
	free(sink);
}

int sink_new(const char *target, enum sink_form form, size_t capacity, struct sink **ret_sink)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	int r;

	if (!sink)
		return -ENOMEM;
	sink->form = form;
	sink->fd = -1;
	pthread_mutex_init(&sink->lock, NULL);
	pthread_cond_init(&sink->wanted, NULL);
	if (!strcmp(target, "none")) {
		*ret_sink = sink;
		return 0;
	}
	sink->capacity = capacity;
	sink->ring = malloc(capacity);
	if (!sink->ring) {
		sink_destroy(sink);
		return -ENOMEM;
	}
	if (!strcmp(target, "stderr")) {
		sink->fd = STDERR_FILENO;
	} else {
		sink->path = strdup(target);
		r = sink->path ? sink_open(target) : -ENOMEM;
		if (r < 0) {
			sink_destroy(sink);
			return r;
		}
		sink->fd = r;
	}
	r = pthread_create(&sink->thread, NULL, sink_main, sink);
	if (r) {
		sink_destroy(sink);
		return -r;
	}
	sink->has_thread = true;
	*ret_sink = sink;
	return 0;
}

void sink_free(struct sink *sink)
{
	if (!sink)
		return;
	if (sink->has_thread) {
		struct timespec last;

		pthread_mutex_lock(&sink->lock);
		sink->stopping = true;
		pthread_cond_signal(&sink->wanted);
		pthread_mutex_unlock(&sink->lock);
		clock_gettime(CLOCK_REALTIME, &last);
		last.tv_sec += LAST_MS / 1000 + 2;
		/* A writer inside write(2) on a stopped terminal: it and its memory stay. */
		if (pthread_timedjoin_np(sink->thread, NULL, &last)) {
			pthread_detach(sink->thread);
			return;
		}
	}
	sink_destroy(sink);
}

void sink_put(struct sink *sink, const char *line, size_t length)
{
	char prefix[48];
	size_t n_prefix = 0;
	bool signal;

	if (!sink || !sink->ring)
		return;
	pthread_mutex_lock(&sink->lock);
	if (sink->lost_unreported && sink->form == SINK_JSON && length && line[0] == '{') {
		n_prefix = snprintf(prefix, sizeof(prefix), "{\"lost\":%" PRIu64 "%s",
				    sink->lost_unreported, length > 2 ? "," : "");
		line++;
		length--;
	} else if (sink->lost_unreported && sink->form == SINK_TEXT) {
		n_prefix = snprintf(prefix, sizeof(prefix), "(%" PRIu64 " lines lost)",
				    sink->lost_unreported);
	}
	/* A line longer than a chunk could never be taken out again. */
	if (length + n_prefix + 2 > CHUNK || length + n_prefix + 2 > sink->capacity - sink->used) {
		sink->lost++;
		sink->lost_unreported++;
		pthread_mutex_unlock(&sink->lock);
		return;
	}
	if (n_prefix) {
		ring_append(sink, prefix, n_prefix);
		sink->lost_unreported = 0;
		if (sink->form == SINK_TEXT)
			ring_end_line(sink);
	}
	ring_append(sink, line, length);
	ring_end_line(sink);
	signal = sink->idle;
	sink->idle = false;
	if (signal)
		pthread_cond_signal(&sink->wanted);
	pthread_mutex_unlock(&sink->lock);
}

void sink_reopen(struct sink *sink)
{
	if (!sink || !sink->path)
		return;
	pthread_mutex_lock(&sink->lock);
	sink->reopen = true;
	pthread_cond_signal(&sink->wanted);
	pthread_mutex_unlock(&sink->lock);
}

uint64_t sink_lost(struct sink *sink)
{
	uint64_t lost;

	pthread_mutex_lock(&sink->lock);
	lost = sink->lost;
	pthread_mutex_unlock(&sink->lock);
	return lost;
}
