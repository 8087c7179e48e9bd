/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a folder to an image: reads the log, decides what its damage means, checks.  Writes
 * nothing and takes no lock.
 *
 * What is damaged is confined as far as can be told: to a lease where its serial is known, to
 * what belongs to no lease where that is 0, and to all leases where nothing is known
 * (docs/design/registry.md has the table).
 *
 * A broker may be writing while registry_load() reads.  The bytes are copied first and judged
 * then; a copy is taken again if the log was replaced meanwhile, or if it looks as if it had
 * ended early, which a copy of a growing log can.
 */

#include "image.h"
#include "log_format.h"
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 5

void registry_image_free(struct registry_image *image)
{
	struct image *whole = (struct image *)image;

	if (!whole)
		return;
	record_arena_deinit(&whole->arena);
	free(whole);
}

__attribute__((format(printf, 4, 5))) static int damaged(struct replay *replay,
							 struct registry_image *image,
							 uint64_t lease, const char *format, ...)
{
	char text[sizeof(image->damage)];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	return replay_damage(replay, lease, text);
}

static void lose(struct registry_image *image, const char *format, size_t offset)
{
	char text[sizeof(image->damage)];

	snprintf(text, sizeof(text), format, offset);
	/* It says more than what was found before. */
	if (!image->lost)
		memcpy(image->damage, text, sizeof(text));
	image->lost = true;
}

static int replay_frames(struct replay *replay, struct registry_image *image, struct scan *scan)
{
	bool again = true;
	int r = 0;

	image->bytes = scan->next;
	while (!r && again) {
		const enum scan_result result = scan_next(scan);

		switch (result) {
		case SCAN_END:
			again = false;
			break;
		case SCAN_FRAME:
			r = replay_batch(replay, scan->lease, scan->body, scan->body_size);
			image->bytes = scan->next;
			if (!r)
				image->batches++;
			if (r <= 0)
				break;
			/* fallthrough */
		case SCAN_DAMAGED:
			image->damaged++;
			r = damaged(replay, image, scan->lease,
				    "the batch at offset %zu is damaged", scan->offset);
			break;
		case SCAN_LOST:
			image->damaged++;
			lose(image,
			     scan->ended_early ? "the log ends at offset %zu, and more follows"
					       : "what is at offset %zu cannot be told, nor of "
						 "which lease it is",
			     scan->offset);
			break;
		case SCAN_TORN:
			image->damaged++;
			damage_set(image->damage, sizeof(image->damage),
				   "the last batch, at offset %zu, was cut off and is left out",
				   scan->offset);
			break;
		}
	}
	return r;
}

/* Leases of which the log lacks a change. */
static int replay_stale(struct replay *replay, struct registry_image *image,
			const struct scan *scan)
{
	int r = 0;

	for (size_t i = 0; i < LOG_STALE_MAX && !r; i++) {
		struct log_stale stale;

		memcpy(&stale, scan->bytes + LOG_STALE_OFFSET + i * sizeof(stale), sizeof(stale));
		if (!stale.set)
			continue;
		image->damaged++;
		if (stale.crc != log_stale_crc(scan->salt, stale.lease) ||
		    stale.lease == LOG_STALE_ALL)
			lose(image,
			     "changes are missing, of leases that are not known (note at %zu)",
			     LOG_STALE_OFFSET + i * sizeof(stale));
		else
			r = replay_damage(replay, stale.lease,
					  "there was no space to store a change of it");
	}
	return r;
}

static int fill(struct image *image, struct replay *replay, struct scan *scan)
{
	struct log_header header;
	int r;

	memcpy(&header, scan->bytes, sizeof(header));
	image->image.schema = header.schema;
	image->image.generation = header.generation;
	image->image.boot = header.boot;
	r = replay_frames(replay, &image->image, scan);
	if (!r)
		r = replay_stale(replay, &image->image, scan);
	if (!r)
		r = replay_finish(replay);
	if (!r)
		r = image_check(image);
	if (r || !image->image.lost)
		return r;
	for (size_t i = 0; i < image->image.n_leases; i++)
		damage_set(image->image.leases[i].damage, sizeof(image->image.leases[i].damage),
			   "%s", image->image.damage);
	return 0;
}

int image_from_bytes(const uint8_t *bytes, size_t size, struct registry_image **ret_image,
		     bool *ret_early, struct registry_problem *ret_problem)
{
	struct replay *replay = NULL;
	struct image *image;
	struct scan scan;
	int r;

	r = scan_begin(&scan, bytes, size, ret_problem);
	if (r)
		return r;
	image = calloc(1, sizeof(*image));
	r = image ? replay_new(image, &replay) : -ENOMEM;
	if (!r)
		r = fill(image, replay, &scan);
	replay_free(replay);
	if (r) {
		if (image)
			registry_image_free(&image->image);
		return r;
	}
	if (ret_early)
		*ret_early = scan.ended_early;
	*ret_image = &image->image;
	return 0;
}

int registry_load_bytes(const void *bytes, size_t size, struct registry_image **ret_image,
			struct registry_problem *ret_problem)
{
	return image_from_bytes(bytes, size, ret_image, NULL, ret_problem);
}

/* ---- a folder that someone may be writing in ---- */

struct copy {
	uint8_t *bytes;
	size_t size;
};

static void copy_free(struct copy *copy)
{
	if (copy->bytes)
		munmap(copy->bytes, copy->size);
	*copy = (struct copy){0};
}

static int copy_read(struct copy *copy, int fd)
{
	size_t done = 0;

	while (done < copy->size) {
		ssize_t n = pread(fd, copy->bytes + done, copy->size - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	return 0;
}

/* 1: the log became another one meanwhile. */
static int copy_log(const char *path, struct copy *ret_copy)
{
	struct copy copy = {0};
	struct log_header now;
	struct stat st, named;
	int fd, r = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	else if (st.st_size > 0) {
		copy.size = (size_t)st.st_size;
		copy.bytes = mmap(NULL, copy.size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (copy.bytes == MAP_FAILED) {
			copy.bytes = NULL;
			r = -ENOMEM;
		} else {
			r = copy_read(&copy, fd);
		}
	}
	/* A log that was replaced is cleared and used again, its header first. */
	if (!r && copy.size >= sizeof(now) &&
	    (pread(fd, &now, sizeof(now), 0) != sizeof(now) ||
	     memcmp(&now, copy.bytes, sizeof(now)) || stat(path, &named) ||
	     named.st_ino != st.st_ino))
		r = 1;
	close(fd);
	if (r) {
		copy_free(&copy);
		return r;
	}
	*ret_copy = copy;
	return 0;
}

int registry_load(const char *folder, struct registry_image **ret_image,
		  struct registry_problem *ret_problem)
{
	struct registry_image *image = NULL;
	struct registry_problem problem = {.message = ""};
	char path[4096];
	int r = -EAGAIN;

	if (snprintf(path, sizeof(path), "%s/log", folder) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	for (unsigned try = 0; try < TRIES; try++) {
		struct copy copy = {0};
		bool early = false;

		r = copy_log(path, &copy);
		if (r == 1) {
			r = -EAGAIN;
			continue;
		}
		if (r)
			break;
		registry_image_free(image);
		image = NULL;
		r = image_from_bytes(copy.bytes, copy.size, &image, &early, &problem);
		copy_free(&copy);
		if (r || !early)
			break;
	}
	if (r == -ENOENT) {
		r = REGISTRY_E_NONE;
		snprintf(problem.message, sizeof(problem.message), "no registry is in the folder");
	}
	if (r > 0 && ret_problem)
		*ret_problem = problem;
	if (!image)
		return r;
	*ret_image = image;
	return 0;
}
