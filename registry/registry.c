/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open registry: the lock, the two files, which of them is the log, and the room in them.
 *
 *	lock		flock() while it is open
 *	log		what a later start reads
 *	log.new		the log that is being made; at other times the spare, which is all zero or
 *			on the way there, and read by nobody
 *	log.SUFFIX	a log that was put aside
 *
 * Commit exchanges the names of log and log.new in one step.  The old log then is the spare: its
 * pages are never given back in between, so nobody else on the file system can take them.
 *
 * Room.  Kept after every change:
 *
 *	used		bytes of the log with frames in them, header included
 *	promised	room that was taken and is not used up
 *	live		room that the records needed which were put since the last snapshot began,
 *			and those of the snapshot: a snapshot now would not take more
 *	both		while compacting: room that changes have needed in the new log
 *
 * Room for something new is had only if both files are, or can be made, at least
 *
 *	need = slack + max(used + promised, LOG_HEADER_SIZE + both + live + 2 x promised)
 *
 * large.  The second term is what the new log of a compaction comes to that begins now: the
 * snapshot, in which a promised change may be, and the change itself, which goes into both logs.
 * So a compaction never fails for space.  Room to give something back is always had; where the
 * files cannot grow it comes out of the slack.  Then, and where something new was refused,
 * registry_wants_compaction() says so as soon as a quarter of the slack was appended since the
 * snapshot: with less, a compaction would not help.  At other times one is wanted when
 *
 *	used > 2 x bytes of the last snapshot + slack
 *
 * The last resort.  A change for which there is no space at all (the caller has given back more
 * than the slack holds, and not compacted) is noted in the header page as missing, by the serial
 * of its lease (LOG_STALE_MAX of them, then "all"): a start that reads this log gives these
 * leases damage, and the next compaction, which writes what lives, heals it.
 *
 * While compacting, a new log that could not take a change is not committed any more.
 */

#include "registry_internal.h"
#include "batch.h"
#include "image.h"
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* A record that gets a batch of its own in the snapshot: header and padding. */
#define FRAME_OWN 32
/* Of a lease, what its record may have grown by when the snapshot is made: its counters. */
#define LEASE_MORE 32
#define SUFFIX_MAX 32

enum state {
	STATE_CLOSED,	/* before registry_begin() */
	STATE_STARTING, /* there is only the new log */
	STATE_RUNNING,
	STATE_COMPACTING,
};

struct registry {
	enum state state;
	char *path;
	int folder;
	int lock;
	struct log_file log;
	struct log_file spare; /* or the new log */
	size_t slack;
	size_t step;
	log_allocate_fn allocate;
	void *data;
	uint64_t generation; /* of the newest log that is known */
	char aside[SUFFIX_MAX + 1];
	bool put_aside;
	bool new_failed; /* the new log lacks a change */
	bool short_of_space;
	size_t snapshot; /* used of the log when it was committed */
	size_t promised, live, both;
	size_t new_live; /* live, once the new log is committed */
	uint64_t stale, new_stale;
	uint64_t compactions, refused;
};

static int allocate_for_real(void *data, int fd, size_t offset, size_t length)
{
	return fallocate(fd, 0, (off_t)offset, (off_t)length) ? -errno : 0;
}

/* ---- open ---- */

static int problem_set(struct registry_problem *ret_problem, int error, const char *text)
{
	if (ret_problem)
		snprintf(ret_problem->message, sizeof(ret_problem->message), "%s", text);
	return error;
}

static int take_lock(struct registry *registry, struct registry_problem *ret_problem)
{
	registry->lock =
		openat(registry->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (registry->lock < 0)
		return -errno;
	if (!flock(registry->lock, LOCK_EX | LOCK_NB))
		return 0;
	return errno == EWOULDBLOCK ? problem_set(ret_problem, REGISTRY_E_LOCKED,
						  "another process has the registry open")
				    : -errno;
}

/* Under the lock: nobody writes, so the file can be read where it is. */
static int read_log(struct registry *registry, struct registry_image **ret_image,
		    struct registry_problem *ret_problem)
{
	int fd = openat(registry->folder, "log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	void *bytes = NULL;
	struct stat st;
	int r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st))
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = problem_set(ret_problem, REGISTRY_E_DAMAGED, "the log is not a file");
	else if (st.st_size > 0) {
		bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd,
			     0);
		if (bytes == MAP_FAILED)
			r = -errno;
	}
	close(fd);
	if (r)
		return r;
	r = image_from_bytes(bytes, (size_t)st.st_size, ret_image, NULL, ret_problem);
	if (bytes)
		munmap(bytes, (size_t)st.st_size);
	return r;
}

static int open_folder(const char *folder)
{
	int fd;

	if (mkdir(folder, 0700) && errno != EEXIST)
		return -errno;
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int registry_open_with(const char *folder, const struct registry_options *options,
		       struct registry **ret_registry, struct registry_image **ret_image,
		       struct registry_problem *ret_problem)
{
	struct registry *registry = calloc(1, sizeof(*registry));
	struct registry_image *image = NULL;
	int r;

	if (!registry)
		return -ENOMEM;
	*registry = (struct registry){
		.folder = -1,
		.lock = -1,
		.log = LOG_FILE_NONE,
		.spare = LOG_FILE_NONE,
		.slack = options->slack ? options->slack : REGISTRY_SLACK,
		.step = options->step,
		.allocate = options->allocate ? options->allocate : allocate_for_real,
		.data = options->data,
	};
	registry->path = strdup(folder);
	r = registry->folder = registry->path ? open_folder(folder) : -ENOMEM;
	if (r >= 0)
		r = take_lock(registry, ret_problem);
	if (!r)
		r = read_log(registry, &image, ret_problem);
	if (r && r != REGISTRY_E_DAMAGED) {
		registry_close(registry);
		return r;
	}
	if (image)
		registry->generation = image->generation;
	*ret_registry = registry;
	*ret_image = image;
	return r;
}

int registry_open(const char *folder, struct registry **ret_registry,
		  struct registry_image **ret_image, struct registry_problem *ret_problem)
{
	const struct registry_options options = {0};

	return registry_open_with(folder, &options, ret_registry, ret_image, ret_problem);
}

void registry_close(struct registry *registry)
{
	if (!registry)
		return;
	log_file_close(&registry->log);
	log_file_close(&registry->spare);
	if (registry->lock >= 0)
		close(registry->lock);
	if (registry->folder >= 0)
		close(registry->folder);
	free(registry->path);
	free(registry);
}

const char *registry_folder(const struct registry *registry)
{
	return registry->path;
}

/* ---- room ---- */

static bool is_open_for_changes(const struct registry *registry)
{
	return registry->state != STATE_CLOSED;
}

/* What the file comes to that changes go into first. */
static struct log_file *main_log(struct registry *registry)
{
	return registry->state == STATE_STARTING ? &registry->spare : &registry->log;
}

static size_t need(const struct registry *registry, size_t used, size_t more)
{
	const size_t promised = registry->promised + more;
	const size_t now = used + promised;
	const size_t later = LOG_HEADER_SIZE + registry->both + registry->live + 2 * promised;

	return registry->slack + (now > later ? now : later);
}

static int spare_open(struct registry *registry)
{
	if (registry->spare.fd >= 0)
		return 0;
	return log_file_open(&registry->spare, registry->folder, "log.new", registry->step,
			     registry->allocate, registry->data);
}

/* Both files are as large as what is had and this need. */
static int make_room(struct registry *registry, size_t more)
{
	int r, other;

	if (registry->state == STATE_STARTING)
		r = log_file_extend(&registry->spare, registry->slack + registry->spare.used +
							      registry->promised + more);
	else {
		const size_t size = need(registry, registry->log.used, more);

		r = log_file_extend(&registry->log, size);
		other = spare_open(registry);
		if (!other)
			other = log_file_extend(&registry->spare, size);
		if (!r)
			r = other;
	}
	registry->short_of_space = r;
	return r;
}

static size_t batch_cost(const Ioasid__Registry__Batch *batch, size_t body_size)
{
	const size_t n = batch_n_puts(batch);

	return log_span(body_size) + (n > 1 ? (n - 1) * FRAME_OWN : 0) +
	       (batch->lease || batch->broker ? LEASE_MORE : 0);
}

size_t registry_batch_size(const Ioasid__Registry__Batch *batch)
{
	return batch_cost(batch, ioasid__registry__batch__get_packed_size(batch));
}

int registry_room_take(struct registry *registry, enum registry_class class, size_t bytes,
		       struct registry_room *room)
{
	int r;

	assert(is_open_for_changes(registry));
	r = bytes > SIZE_MAX / 8 ? -ENOSPC : make_room(registry, bytes);
	if (r && class == REGISTRY_GROWS) {
		registry->refused++;
		return -ENOSPC;
	}
	registry->promised += bytes;
	room->bytes += bytes;
	return 0;
}

void registry_room_release(struct registry *registry, struct registry_room *room)
{
	registry->promised -= room->bytes;
	room->bytes = 0;
}

bool registry_wants_compaction(const struct registry *registry)
{
	const struct log_file *log = &registry->log;
	const size_t since = log->used - registry->snapshot;

	if (registry->state != STATE_RUNNING)
		return false;
	return registry->stale || log->used > 2 * registry->snapshot + registry->slack ||
	       (registry->short_of_space && since >= registry->slack / 4);
}

bool registry_is_compacting(const struct registry *registry)
{
	return registry->state == STATE_COMPACTING;
}

/* ---- appending ---- */

/* Space for a frame, and for the word after it. */
static bool has_space(struct log_file *file, size_t span)
{
	return !log_file_extend(file, file->used + span);
}

static const uint8_t *append_main(struct registry *registry, uint64_t lease, size_t body_size,
				  const Ioasid__Registry__Batch *batch)
{
	struct log_file *log = main_log(registry);
	const uint8_t *body = NULL;

	if (has_space(log, log_span(body_size))) {
		body = log_append(log, lease, NULL, body_size, batch);
	} else {
		log_mark_stale(log, lease);
		if (registry->state == STATE_STARTING)
			registry->new_stale++;
		else
			registry->stale++;
	}
	return body;
}

void registry_append(struct registry *registry, struct registry_room *room, uint64_t lease,
		     const Ioasid__Registry__Batch *batch)
{
	const size_t body_size = ioasid__registry__batch__get_packed_size(batch);
	const size_t cost = batch_cost(batch, body_size);
	const size_t put = batch_n_puts(batch) ? cost : 0;
	const uint8_t *body;

	assert(is_open_for_changes(registry));
	assert(room->bytes >= cost && body_size <= UINT32_MAX / 2);
	room->bytes -= cost;
	registry->promised -= cost;
	if (!body_size)
		return;
	body = append_main(registry, lease, body_size, batch);
	switch (registry->state) {
	case STATE_STARTING:
		registry->new_live += put;
		return;
	case STATE_COMPACTING:
		registry->both += cost;
		registry->new_live += put;
		if (has_space(&registry->spare, log_span(body_size)))
			log_append(&registry->spare, lease, body, body_size, batch);
		else
			registry->new_failed = true;
		break;
	default:
		/* The spare is clean long before the log has grown enough for a compaction. */
		log_file_clean(&registry->spare, 4 * log_span(body_size));
	}
	registry->live += put;
}

int registry_append_new(struct registry *registry, uint64_t lease,
			const Ioasid__Registry__Batch *batch)
{
	const size_t body_size = ioasid__registry__batch__get_packed_size(batch);
	const size_t span = log_span(body_size);

	assert(registry->state == STATE_STARTING || registry->state == STATE_COMPACTING);
	assert(body_size <= UINT32_MAX / 2);
	if (registry->new_failed)
		return -ENOSPC;
	if (!body_size)
		return 0;
	/* Not out of what was promised to changes. */
	if (!has_space(&registry->spare, span + registry->promised))
		return -ENOSPC;
	log_append(&registry->spare, lease, NULL, body_size, batch);
	registry->new_live += batch_n_puts(batch) ? batch_cost(batch, body_size) : 0;
	return 0;
}

/* ---- a new log ---- */

static bool suffix_ok(const char *suffix)
{
	return *suffix && strlen(suffix) <= SUFFIX_MAX && !strchr(suffix, '/') &&
	       strcmp(suffix, "new");
}

int registry_begin(struct registry *registry, const struct registry_boot_id *boot,
		   const char *aside)
{
	const bool starting = registry->state == STATE_CLOSED;
	uint64_t salt;
	int r;

	if (registry->state != STATE_CLOSED && registry->state != STATE_RUNNING)
		return -EBUSY;
	if (aside && !suffix_ok(aside))
		return -EINVAL;
	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		return -EIO;
	r = spare_open(registry);
	if (r)
		return r;
	/* What cannot be had now was refused to those who asked for it. */
	(void)log_file_extend(&registry->spare, starting ? registry->slack + LOG_HEADER_SIZE
							 : need(registry, registry->log.used, 0));
	if (registry->spare.size < LOG_HEADER_SIZE)
		return -ENOSPC;
	log_begin(&registry->spare, registry->generation + 1, boot, salt);
	registry->put_aside = aside;
	snprintf(registry->aside, sizeof(registry->aside), "%s", aside ? aside : "");
	registry->new_failed = false;
	registry->new_live = registry->both = 0;
	registry->new_stale = 0;
	registry->state = starting ? STATE_STARTING : STATE_COMPACTING;
	return 0;
}

/* The old log gets another name, too; an older one of that name goes. */
static int link_aside(struct registry *registry)
{
	char name[SUFFIX_MAX + 5];

	snprintf(name, sizeof(name), "log.%s", registry->aside);
	if (unlinkat(registry->folder, name, 0) && errno != ENOENT)
		return -errno;
	if (linkat(registry->folder, "log", registry->folder, name, 0) && errno != ENOENT)
		return -errno;
	return 0;
}

/* log.new becomes log.  ret_exchanged: and log became log.new. */
static int rename_new(struct registry *registry, bool *ret_exchanged)
{
	int r;

	if (registry->put_aside) {
		r = link_aside(registry);
		if (r)
			return r;
	} else if (!renameat2(registry->folder, "log.new", registry->folder, "log",
			      RENAME_EXCHANGE)) {
		*ret_exchanged = true;
		return 0;
	}
	/* There is no log yet, or this file system cannot exchange. */
	if (renameat(registry->folder, "log.new", registry->folder, "log"))
		return -errno;
	*ret_exchanged = false;
	return 0;
}

int registry_commit(struct registry *registry)
{
	const bool starting = registry->state == STATE_STARTING;
	struct log_file old = registry->log;
	bool exchanged = false;
	size_t size;
	int r;

	assert(starting || registry->state == STATE_COMPACTING);
	if (registry->new_failed)
		return -ENOSPC;
	r = rename_new(registry, &exchanged);
	if (r)
		return r;
	registry->log = registry->spare;
	registry->spare = (struct log_file)LOG_FILE_NONE;
	if (exchanged && !starting) {
		old.dirty = old.used;
		old.dirty_start = old.used = 0;
		registry->spare = old;
	} else {
		log_file_close(&old);
	}
	registry->generation++;
	registry->snapshot = registry->log.used;
	registry->live = registry->new_live;
	registry->both = 0;
	registry->stale = registry->new_stale;
	registry->compactions += !starting;
	registry->state = STATE_RUNNING;
	/* What a compaction has freed goes back, so far as it is not needed soon again. */
	size = need(registry, registry->log.used, 0);
	log_file_shrink(&registry->log, 2 * size);
	log_file_shrink(&registry->spare, 2 * size);
	(void)make_room(registry, 0);
	return 0;
}

void registry_abandon(struct registry *registry)
{
	if (registry->state != STATE_STARTING && registry->state != STATE_COMPACTING)
		return;
	registry->spare.dirty = registry->spare.used;
	registry->spare.dirty_start = registry->spare.used = 0;
	registry->both = 0;
	registry->state = registry->state == STATE_STARTING ? STATE_CLOSED : STATE_RUNNING;
}

void registry_stats(const struct registry *registry, struct registry_stats *ret_stats)
{
	const struct log_file *log =
		registry->state == STATE_STARTING ? &registry->spare : &registry->log;

	*ret_stats = (struct registry_stats){
		.generation = registry->generation,
		.used = log->used,
		.allocated = registry->log.size + registry->spare.size,
		.batches = log->batches,
		.compactions = registry->compactions,
		.refused = registry->refused,
		.stale = registry->stale +
			 (registry->state == STATE_STARTING ? registry->new_stale : 0),
	};
}
