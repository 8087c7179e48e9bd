/* SPDX-License-Identifier: Apache-2.0 */
/* See actor_tables.h and, for what each order means, actor.h. */
#include "actor_tables.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMANDS_MAX 8

static int64_t fail_with(int r, struct ioasid_error *error)
{
	fprintf(stderr, "uid %u: %s: %s: %s\n", getuid(), error->method, error->reason,
		error->message);
	ioasid_error_free(error);
	return r;
}

static uint64_t *word_at(const struct tables_actor *self, uint64_t page, uint64_t index)
{
	return (uint64_t *)(void *)(self->bytes + page * ACTOR_PAGE) + index;
}

/* What QEMU moves at once where some of it is refused. */
static int64_t among(const struct tables_actor *self, uint64_t page, const uint64_t seeds[3])
{
	const uint8_t *bytes = self->bytes + page * ACTOR_PAGE;
	uint8_t patterns[3][ACTOR_BYTES];

	for (int i = 0; i < 3; i++)
		actor_pattern(patterns[i], ACTOR_BYTES, seeds[i]);
	for (size_t at = 0; at < ACTOR_BYTES; at += 4)
		if (memcmp(bytes + at, patterns[0] + at, 4) != 0 &&
		    memcmp(bytes + at, patterns[1] + at, 4) != 0 &&
		    memcmp(bytes + at, patterns[2] + at, 4) != 0)
			return -EILSEQ;
	return 0;
}

/* ---- an entry that changes all the while ---- */

static struct {
	pthread_t thread;
	atomic_bool stop;
	uint64_t *word, values[2];
	int64_t n;
} flips;

static void *flip(void *data)
{
	while (!flips.stop) {
		__atomic_store_n(flips.word, flips.values[flips.n & 1], __ATOMIC_RELEASE);
		flips.n++;
	}
	return data;
}

static int64_t flip_start(uint64_t *word, uint64_t first, uint64_t second)
{
	flips.stop = false;
	flips.word = word;
	flips.values[0] = first;
	flips.values[1] = second;
	flips.n = 0;
	return -pthread_create(&flips.thread, NULL, flip, NULL);
}

static int64_t flip_stop(void)
{
	flips.stop = true;
	pthread_join(flips.thread, NULL);
	__atomic_store_n(flips.word, flips.values[0], __ATOMIC_RELEASE);
	return flips.n;
}

/* ---- IOASIDs and their bindings ---- */

static int64_t alloc_user(const struct tables_actor *self, const char *device, const uint64_t x[5])
{
	const enum ioasid_format format = IOASID_FORMAT_ARMV8_S1_4K;
	const struct ioasid_page_table table = {.root = x[2], .format = format};
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_USER,
		.n_devices = 1,
		.devices = &device,
		.parent = x[0],
		.n_candidates = 1,
		.candidates = &format,
		.table_bits = (uint32_t)x[1],
		.table = x[2] ? &table : NULL,
	};
	struct ioasid_error *error;
	uint64_t id;
	int r = ioasid_alloc(self->client, self->scope, &request, &id, NULL, &error);

	return r < 0 ? fail_with(r, error) : (int64_t)id;
}

static int64_t bound_root(const struct tables_actor *self, uint64_t ioasid)
{
	struct ioasid_info *info;
	struct ioasid_error *error;
	int r = ioasid_get(self->client, self->scope, ioasid, &info, &error);
	int64_t root;

	if (r < 0)
		return fail_with(r, error);
	root = info->table	   ? (int64_t)info->table->root
	       : info->pasid_table ? (int64_t)info->pasid_table->root
				   : 0;
	ioasid_info_free(info);
	return root;
}

static int64_t table_width(const struct tables_actor *self, uint64_t ioasid)
{
	struct ioasid_info *info;
	struct ioasid_error *error;
	int r = ioasid_get(self->client, self->scope, ioasid, &info, &error);
	int64_t bits;

	if (r < 0)
		return fail_with(r, error);
	bits = info->choice->input_bits;
	ioasid_info_free(info);
	return bits;
}

static int64_t bind(const struct tables_actor *self, enum actor_op op, const uint64_t x[5])
{
	const struct ioasid_page_table table = {.root = x[1]};
	const struct ioasid_pasid_table cds = {
		.format = IOASID_PASID_TABLE_SMMUV3_CD, .root = x[1], .pasid_bits = (uint32_t)x[2]};
	struct ioasid_error *error;
	int r;

	if (op == ACT_BIND_TABLE)
		r = ioasid_bind_page_table(self->client, self->scope, x[0], &table, &error);
	else if (op == ACT_UNBIND_TABLE)
		r = ioasid_unbind_page_table(self->client, self->scope, x[0], &error);
	else if (op == ACT_BIND_CDS)
		r = ioasid_bind_pasid_table(self->client, self->scope, x[0], &cds, &error);
	else
		r = ioasid_unbind_pasid_table(self->client, self->scope, x[0], &error);
	return r < 0 ? fail_with(r, error) : r;
}

/* ---- the parent ---- */

static int64_t map_all(const struct tables_actor *self, const uint64_t x[5])
{
	const struct ioasid_map_entry entry = {
		.iova = x[1],
		.length = ACTOR_PAGES * ACTOR_PAGE,
		.memory = x[4],
		.flags = (uint32_t)x[3],
	};
	struct ioasid_error *error;
	int r = ioasid_map(self->client, self->scope, x[0], &entry, 1, NULL, &error);

	return r < 0 ? fail_with(r, error) : r;
}

static int64_t unmap_all(const struct tables_actor *self, uint64_t ioasid)
{
	struct ioasid_error *error;
	int r = ioasid_unmap_all(self->client, self->scope, ioasid, NULL, NULL, &error);

	return r < 0 ? fail_with(r, error) : r;
}

static int64_t reserved_at(const struct tables_actor *self, const char *device, const char *use)
{
	struct ioasid_device *d;
	struct ioasid_error *error;
	int64_t start = -ENOENT;
	int r = ioasid_device_get(self->client, self->scope, device, &d, &error);

	if (r < 0)
		return fail_with(r, error);
	for (size_t i = 0; i < d->capabilities->n_reserved; i++)
		if (!strcmp(d->capabilities->reserved[i]->use, use))
			start = (int64_t)d->capabilities->reserved[i]->start;
	ioasid_device_free(d);
	return start;
}

/* ---- invalidations ---- */

static int64_t refused_after(int r, struct ioasid_error *error)
{
	uint64_t done = ioasid_error_done(error);

	(void)fail_with(r, error);
	return r == -EINVAL ? -ACTOR_REFUSED - (int64_t)done : r;
}

static int64_t invalidate(const struct tables_actor *self, const uint64_t x[5])
{
	const struct ioasid_invalidate_entry entry = {
		.granularity = (enum ioasid_granularity)x[1],
		.flags = x[4] ? IOASID_INVALIDATE_LEAF : 0,
		.iova = x[2],
		.length = x[3],
	};
	struct ioasid_error *error;
	size_t done;
	int r = ioasid_invalidate(self->client, self->scope, x[0], &entry, 1, &done, NULL, &error);

	return r < 0 ? refused_after(r, error) : (int64_t)done;
}

static int64_t native(const struct tables_actor *self, const char *text, uint64_t ioasid)
{
	uint64_t words[COMMANDS_MAX * 2];
	struct ioasid_error *error;
	size_t n = 0, done;
	char *end;
	int r;

	for (; *text && n < COMMANDS_MAX * 2; text = end + (*end == ' '))
		words[n++] = strtoull(text, &end, 16);
	r = ioasid_invalidate_native(self->client, self->scope, ioasid, IOASID_NATIVE_SMMUV3, words,
				     n * sizeof(*words), &done, NULL, &error);
	return r < 0 ? refused_after(r, error) : (int64_t)done;
}

/* ---- faults ---- */

static struct ioasid_watch *watch;

static int64_t watch_start(const struct tables_actor *self)
{
	struct ioasid_error *error;
	int r = ioasid_watch_faults(self->client, self->scope, 0, 0, &watch, &error);

	return r < 0 ? fail_with(r, error) : r;
}

static int64_t next_fault(const char *device, const uint64_t x[5])
{
	struct ioasid_fault_event *e;
	struct ioasid_error *error;
	int r = ioasid_watch_next_fault(watch, (uint32_t)x[2], &e, &error);
	const struct ioasid_fault *f;
	int64_t result;

	if (r == -EAGAIN)
		return r;
	if (r < 0)
		return fail_with(r, error);
	f = e->fault;
	if (!f || e->cookie || e->pasid)
		result = -EBADMSG;
	else if (e->ioasid != x[0] || strcmp(e->device, device) != 0)
		result = -EXDEV;
	else if (x[1] && f->address / ACTOR_PAGE != x[1] / ACTOR_PAGE)
		result = -ERANGE;
	else
		result = f->cause;
	if (result < 0)
		fprintf(stderr, "uid %u: fault of %s, ioasid %llu, cause %d, address %llx\n",
			getuid(), e->device, (unsigned long long)e->ioasid, f ? (int)f->cause : -1,
			f ? (unsigned long long)f->address : 0);
	ioasid_fault_event_free(e);
	return result;
}

static int64_t drop_faults(uint32_t timeout_ms)
{
	struct ioasid_fault_event *e;
	struct ioasid_error *error;
	int64_t n = 0;
	int r;

	while (!(r = ioasid_watch_next_fault(watch, timeout_ms, &e, &error))) {
		/* The gap that a restart leaves is of no device. */
		n += e->ioasid != 0;
		ioasid_fault_event_free(e);
	}
	return r == -EAGAIN ? n : fail_with(r, error);
}

int64_t actor_tables(const struct tables_actor *self, enum actor_op op, const char *text,
		     const uint64_t x[5])
{
	switch (op) {
	case ACT_WORD:
		__atomic_store_n(word_at(self, x[0], x[1]), x[2], __ATOMIC_RELEASE);
		return 0;
	case ACT_PEEK:
		return (int64_t)__atomic_load_n(word_at(self, x[0], x[1]), __ATOMIC_ACQUIRE);
	case ACT_AMONG:
		return among(self, x[0], x + 1);
	case ACT_FLIP:
		return flip_start(word_at(self, x[0], x[1]), x[2], x[3]);
	case ACT_FLIP_STOP:
		return flip_stop();
	case ACT_MAP_ALL:
		return map_all(self, x);
	case ACT_UNMAP_ALL:
		return unmap_all(self, x[0]);
	case ACT_RESERVED:
		return reserved_at(self, text, x[0] ? "broker" : "msi");
	case ACT_ALLOC_USER:
		return alloc_user(self, text, x);
	case ACT_BOUND:
		return bound_root(self, x[0]);
	case ACT_WIDTH:
		return table_width(self, x[0]);
	case ACT_BIND_TABLE:
	case ACT_UNBIND_TABLE:
	case ACT_BIND_CDS:
	case ACT_UNBIND_CDS:
		return bind(self, op, x);
	case ACT_INVALIDATE:
		return invalidate(self, x);
	case ACT_NATIVE:
		return native(self, text, x[0]);
	case ACT_WATCH:
		return watch_start(self);
	case ACT_FAULT:
		return next_fault(text, x);
	case ACT_DROP_FAULTS:
		return drop_faults((uint32_t)x[0]);
	default:
		return -ENOSYS;
	}
}
