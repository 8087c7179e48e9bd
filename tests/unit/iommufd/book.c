/* SPDX-License-Identifier: Apache-2.0 */

/* See book.h. */

#include "book.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const book_addresses[BOOK_DEVICES] = {
	"0000:00:03.0", "0000:01:00.0", "0000:03:01.0", "0000:03:02.0", "0000:81:00.0",
};

struct book *book_new(void)
{
	struct book *book = mmap(NULL, sizeof(*book), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(book != MAP_FAILED);
	fake_init(&book->fake);
	fake_device(&book->fake, book_addresses[LARGE])->keeper.pri = true;
	return book;
}

void book_free(struct book *book)
{
	assert_int_equal(munmap(book, sizeof(*book)), 0);
}

void broker_start(struct broker *broker, struct book *book, const struct fake_tree *tree)
{
	struct iommufd_problem problem = {{0}};
	struct iommufd_sys sys = fake_sys(&book->fake);

	*broker = (struct broker){.book = book};
	if (iommufd_shim_new_on(&sys, &iommufd_backend_vfio, tree->root, &broker->shim, &problem))
		fail_msg("%s", problem.message);
}

void broker_stop(struct broker *broker)
{
	shim_ctx_leave(broker->ctx);
	shim_free(broker->shim);
	*broker = (struct broker){.book = broker->book};
}

/* ---- the book ---- */

static struct book_intent *begin(struct broker *broker, enum book_call call)
{
	struct book_intent *intent = &broker->book->intent;

	*intent = (struct book_intent){.call = call};
	return intent;
}

static void done(struct broker *broker)
{
	broker->book->intent.call = CALL_NONE;
}

static int worked(struct broker *broker, int r)
{
	if (broker->ends_before_result)
		_exit(FAKE_CRASHED);
	if (r)
		done(broker);
	return r;
}

static struct book_attachment *find(struct book *book, unsigned dev, uint32_t pasid)
{
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		struct book_attachment *a = &book->attachments[i];

		if (a->there && a->dev == dev && a->pasid == pasid)
			return a;
	}
	return NULL;
}

static struct book_attachment *room(struct book *book)
{
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++)
		if (!book->attachments[i].there)
			return &book->attachments[i];
	fail_msg("too many attachments");
	return NULL;
}

static void drop_device(struct broker *broker, unsigned dev)
{
	struct book *book = broker->book;

	book->devs[dev].there = false;
	broker->devs[dev] = NULL;
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++)
		if (book->attachments[i].dev == dev)
			book->attachments[i].there = false;
}

static void drop_table(struct broker *broker, unsigned pt)
{
	broker->book->pts[pt] = (struct book_table){0};
	broker->pts[pt] = NULL;
}

static void drop_map(struct book_table *pt, const struct book_mapping *map)
{
	for (size_t i = 0; i < pt->n_maps; i++)
		if (pt->maps[i].iova == map->iova) {
			assert_int_equal(pt->maps[i].length, map->length);
			pt->maps[i] = pt->maps[--pt->n_maps];
			return;
		}
	fail_msg("not mapped");
}

static void note_maps(struct broker *broker, unsigned pt)
{
	struct book_table *t = &broker->book->pts[pt];

	t->bytes = shim_pt_table_bytes(broker->pts[pt]);
}

static void register_memory(struct broker *broker)
{
	assert_int_equal(shim_mem_register(broker->ctx, 77, 0, 4 * G1, RW, &broker->mem), 0);
}

static void drop_everything(struct broker *broker)
{
	struct book *book = broker->book;

	for (unsigned i = 0; i < BOOK_DEVICES; i++)
		drop_device(broker, i);
	for (unsigned i = 0; i < BOOK_TABLES; i++)
		drop_table(broker, i);
	book->open = false;
	broker->ctx = NULL;
}

/* ---- calls ---- */

int broker_open(struct broker *broker)
{
	int r;

	begin(broker, CALL_OPEN);
	r = worked(broker, shim_ctx_new(broker->shim, "org", NULL, &broker->ctx));
	if (r)
		return r;
	shim_ctx_save(broker->ctx, &broker->book->ctx);
	broker->book->open = true;
	register_memory(broker);
	done(broker);
	return 0;
}

int broker_close(struct broker *broker)
{
	begin(broker, CALL_CLOSE);
	shim_ctx_free(broker->ctx);
	worked(broker, 0);
	drop_everything(broker);
	done(broker);
	return 0;
}

int broker_claim(struct broker *broker, unsigned first, unsigned n)
{
	int r;

	begin(broker, CALL_CLAIM);
	r = worked(broker, shim_dev_bind(broker->ctx, &book_addresses[first], n, NULL,
					 &broker->devs[first]));
	for (unsigned i = first; !r && i < first + n; i++) {
		shim_dev_save(broker->devs[i], &broker->book->devs[i].saved);
		broker->book->devs[i].there = true;
	}
	done(broker);
	return r;
}

int broker_release(struct broker *broker, unsigned dev)
{
	begin(broker, CALL_RELEASE)->dev = dev;
	shim_dev_release(broker->devs[dev]);
	worked(broker, 0);
	drop_device(broker, dev);
	done(broker);
	return 0;
}

static struct shim_pt_spec to_spec(const struct broker *broker, const struct book_spec *spec)
{
	return (struct shim_pt_spec){
		.kind = spec->user ? SHIM_KIND_USER : SHIM_KIND_KERNEL,
		.format = spec->user ? SHIM_FORMAT_X86_64_4L : SHIM_FORMAT_KERNEL_CHOSEN,
		.parent = spec->user ? broker->pts[spec->parent] : NULL,
		.faults = spec->faults,
		.dirty_tracking = spec->dirty,
	};
}

int broker_alloc(struct broker *broker, unsigned pt)
{
	return broker_alloc_as(broker, pt, &(struct book_spec){0});
}

int broker_alloc_as(struct broker *broker, unsigned pt, const struct book_spec *as)
{
	struct shim_pt_spec spec = to_spec(broker, as);
	struct shim_table table = {.root = as->root};
	int r;

	spec.table = as->root ? &table : NULL;
	begin(broker, CALL_ALLOC);
	r = worked(broker, shim_pt_create(broker->ctx, &spec, NULL, &broker->pts[pt]));
	if (r)
		return r;
	broker->book->pts[pt] = (struct book_table){.there = true, .spec = *as, .root = as->root};
	shim_pt_save(broker->pts[pt], &broker->book->pts[pt].saved);
	done(broker);
	return 0;
}

int broker_free(struct broker *broker, unsigned pt)
{
	begin(broker, CALL_FREE)->pt = pt;
	shim_pt_destroy(broker->pts[pt]);
	worked(broker, 0);
	drop_table(broker, pt);
	done(broker);
	return 0;
}

static void to_maps(const struct broker *broker, const struct book_mapping *maps, size_t n,
		    struct shim_map *ret_maps)
{
	assert_true(n <= BOOK_MAPS);
	for (size_t i = 0; i < n; i++)
		ret_maps[i] = (struct shim_map){.iova = maps[i].iova,
						.length = maps[i].length,
						.mem = broker->mem,
						.prot = RW};
}

static void to_ranges(const struct book_mapping *maps, size_t n, struct shim_unmap *ret_ranges)
{
	assert_true(n <= BOOK_MAPS);
	for (size_t i = 0; i < n; i++)
		ret_ranges[i] = (struct shim_unmap){maps[i].iova, maps[i].length};
}

int broker_map(struct broker *broker, unsigned pt, const struct book_mapping *maps, size_t n,
	       const struct shim_cancel *cancel)
{
	struct book_intent *intent = begin(broker, CALL_MAP);
	struct book_table *t = &broker->book->pts[pt];
	struct shim_map m[BOOK_MAPS];
	int r;

	to_maps(broker, maps, n, m);
	intent->pt = pt;
	memcpy(intent->maps, maps, n * sizeof(*maps));
	intent->n_maps = n;
	r = worked(broker, shim_pt_map(broker->pts[pt], m, n, cancel));
	if (r)
		return r;
	assert_true(t->n_maps + n <= BOOK_MAPS);
	memcpy(&t->maps[t->n_maps], maps, n * sizeof(*maps));
	t->n_maps += n;
	note_maps(broker, pt);
	done(broker);
	return 0;
}

int broker_unmap(struct broker *broker, unsigned pt, const struct book_mapping *maps, size_t n)
{
	struct book_intent *intent = begin(broker, CALL_UNMAP);
	struct shim_unmap u[BOOK_MAPS];
	size_t n_done;
	int r;

	to_ranges(maps, n, u);
	intent->pt = pt;
	memcpy(intent->maps, maps, n * sizeof(*maps));
	intent->n_maps = n;
	r = worked(broker, shim_pt_unmap(broker->pts[pt], u, n, &n_done));
	for (size_t i = 0; i < n_done; i++)
		drop_map(&broker->book->pts[pt], &maps[i]);
	note_maps(broker, pt);
	done(broker);
	return r;
}

int broker_attach(struct broker *broker, unsigned dev, uint32_t pasid, unsigned pt)
{
	struct book_intent *intent = begin(broker, CALL_ATTACH);
	struct book_attachment *a = room(broker->book);
	int r;

	intent->dev = dev;
	intent->pasid = pasid;
	r = worked(broker, shim_attach(broker->devs[dev], pasid, broker->pts[pt], NULL));
	if (r)
		return r;
	*a = (struct book_attachment){.there = true, .dev = dev, .pt = pt, .pasid = pasid};
	shim_attach_save(broker->devs[dev], pasid, &a->saved);
	done(broker);
	return 0;
}

int broker_replace(struct broker *broker, unsigned dev, uint32_t pasid, unsigned pt)
{
	struct book_intent *intent = begin(broker, CALL_REPLACE);
	struct book_attachment *a = find(broker->book, dev, pasid);
	int r;

	intent->dev = dev;
	intent->pasid = pasid;
	r = worked(broker, shim_replace(broker->devs[dev], pasid, broker->pts[pt], NULL));
	if (r)
		return r;
	a->pt = pt;
	shim_attach_save(broker->devs[dev], pasid, &a->saved);
	done(broker);
	return 0;
}

int broker_detach(struct broker *broker, unsigned dev, uint32_t pasid)
{
	struct book_intent *intent = begin(broker, CALL_DETACH);
	int r;

	intent->dev = dev;
	intent->pasid = pasid;
	r = worked(broker, shim_detach(broker->devs[dev], pasid));
	if (r)
		return r;
	find(broker->book, dev, pasid)->there = false;
	done(broker);
	return 0;
}

static int bind_root(struct broker *broker, unsigned pt, uint64_t root)
{
	struct shim_table table = {.root = root};

	return shim_pt_bind_table(broker->pts[pt], root ? &table : NULL, NULL);
}

int broker_bind(struct broker *broker, unsigned pt, uint64_t root)
{
	struct book_table *t = &broker->book->pts[pt];
	int r;

	begin(broker, root ? CALL_BIND : CALL_UNBIND)->pt = pt;
	r = worked(broker, bind_root(broker, pt, root));
	if (r)
		return r;
	t->root = root;
	shim_pt_save(broker->pts[pt], &t->saved);
	done(broker);
	return 0;
}

int broker_track(struct broker *broker, unsigned pt, bool enable)
{
	struct book_table *t = &broker->book->pts[pt];
	int r;

	begin(broker, CALL_TRACK)->pt = pt;
	r = worked(broker, shim_pt_track_dirty(broker->pts[pt], enable, false));
	if (r)
		return r;
	t->tracked = enable;
	shim_pt_save(broker->pts[pt], &t->saved);
	done(broker);
	return 0;
}

unsigned broker_dirty(struct broker *broker, unsigned pt)
{
	uint8_t bitmap = 0;

	assert_int_equal(shim_pt_read_dirty(broker->pts[pt], 0, 8 * K4, 12, true, &bitmap), 0);
	return bitmap;
}

/* ---- restore ---- */

/* Only what was to end may be gone. */
static bool may_be_gone(const struct book *book, enum book_call call, unsigned which)
{
	const struct book_intent *intent = &book->intent;

	if (intent->call == CALL_CLOSE)
		return true;
	if (intent->call != call)
		return false;
	return which == (call == CALL_RELEASE ? intent->dev : intent->pt);
}

static int restore_devices(struct broker *broker)
{
	struct book *book = broker->book;

	for (unsigned i = 0; i < BOOK_DEVICES; i++) {
		int r = book->devs[i].there
				? shim_dev_restore(broker->ctx, book_addresses[i],
						   &book->devs[i].saved, &broker->devs[i])
				: 0;

		if (r == SHIM_E_GONE && may_be_gone(book, CALL_RELEASE, i))
			drop_device(broker, i);
		else if (r)
			return r;
	}
	return 0;
}

/* The mappings that an unmap was at are left out if their rest is undone. */
static int restore_maps(struct broker *broker, unsigned pt)
{
	const struct book_intent *intent = &broker->book->intent;
	struct book_table *t = &broker->book->pts[pt];
	struct shim_map m[BOOK_MAPS];

	if (intent->call == CALL_UNMAP && intent->pt == pt && broker->undoes_unmap)
		for (size_t i = 0; i < intent->n_maps; i++)
			for (size_t k = 0; k < t->n_maps; k++)
				if (t->maps[k].iova == intent->maps[i].iova)
					t->maps[k] = t->maps[--t->n_maps];
	to_maps(broker, t->maps, t->n_maps, m);
	return shim_pt_restore_map(broker->pts[pt], m, t->n_maps);
}

static int restore_tables(struct broker *broker)
{
	struct book *book = broker->book;

	for (unsigned i = 0; i < BOOK_TABLES; i++) {
		struct shim_pt_spec spec;
		int r;

		if (!book->pts[i].there)
			continue;
		spec = to_spec(broker, &book->pts[i].spec);
		/* Of a context that was closing, a parent may be gone: then its child is. */
		if (book->pts[i].spec.user && !spec.parent) {
			assert_int_equal(book->intent.call, CALL_CLOSE);
			drop_table(broker, i);
			continue;
		}
		r = shim_pt_restore(broker->ctx, &spec, &book->pts[i].saved, &broker->pts[i]);
		if (r == SHIM_E_GONE && may_be_gone(book, CALL_FREE, i)) {
			drop_table(broker, i);
			continue;
		}
		if (!r)
			r = restore_maps(broker, i);
		if (r)
			return r;
	}
	return 0;
}

static int restore_attachments(struct broker *broker)
{
	struct book *book = broker->book;

	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		const struct book_attachment *a = &book->attachments[i];
		int r = 0;

		/* Of a context that was closing, either may be gone. */
		if (a->there && book->devs[a->dev].there && book->pts[a->pt].there)
			r = shim_attach_restore(broker->devs[a->dev], a->pasid, broker->pts[a->pt],
						&a->saved);
		if (r)
			return r;
	}
	return 0;
}

static int redo_unmap(struct broker *broker, const struct book_intent *intent)
{
	struct book_table *t = &broker->book->pts[intent->pt];
	struct shim_unmap u[BOOK_MAPS];
	size_t n;
	int r;

	to_ranges(intent->maps, intent->n_maps, u);
	if (broker->undoes_unmap)
		return shim_pt_undo_map(broker->pts[intent->pt], u, intent->n_maps);
	r = shim_pt_unmap(broker->pts[intent->pt], u, intent->n_maps, &n);
	for (size_t i = 0; !r && i < n; i++)
		drop_map(t, &intent->maps[i]);
	return r;
}

/* What was cut short. */
static int settle(struct broker *broker)
{
	struct book *book = broker->book;
	const struct book_intent *intent = &book->intent;
	struct shim_unmap u[BOOK_MAPS];
	struct book_attachment *a;
	int r = 0;

	switch (intent->call) {
	case CALL_MAP:
		to_ranges(intent->maps, intent->n_maps, u);
		return shim_pt_undo_map(broker->pts[intent->pt], u, intent->n_maps);
	case CALL_UNMAP:
		r = redo_unmap(broker, intent);
		note_maps(broker, intent->pt);
		return r;
	case CALL_ATTACH:
		return shim_detach(broker->devs[intent->dev], intent->pasid);
	case CALL_REPLACE:
		a = find(book, intent->dev, intent->pasid);
		if (broker->replaces_back)
			r = shim_replace(broker->devs[a->dev], a->pasid, broker->pts[a->pt], NULL);
		return r;
	case CALL_DETACH:
		a = find(book, intent->dev, intent->pasid);
		if (a)
			r = shim_detach(broker->devs[intent->dev], intent->pasid);
		if (a && !r)
			a->there = false;
		return r;
	case CALL_BIND:
		return bind_root(broker, intent->pt, book->pts[intent->pt].root);
	case CALL_UNBIND:
		r = bind_root(broker, intent->pt, 0);
		if (!r)
			book->pts[intent->pt].root = 0;
		return r;
	case CALL_TRACK:
		/* What was written meanwhile is not known. */
		return shim_pt_track_dirty(broker->pts[intent->pt], book->pts[intent->pt].tracked,
					   book->pts[intent->pt].tracked);
	case CALL_RELEASE:
		shim_dev_release(broker->devs[intent->dev]);
		drop_device(broker, intent->dev);
		return 0;
	case CALL_FREE:
		shim_pt_destroy(broker->pts[intent->pt]);
		drop_table(broker, intent->pt);
		return 0;
	case CALL_NONE:
	case CALL_OPEN:
	case CALL_CLOSE:
	case CALL_CLAIM:
	case CALL_ALLOC:
		break;
	}
	return 0;
}

static bool is_undone(enum book_call call)
{
	return call == CALL_ALLOC || call == CALL_CLAIM || call == CALL_MAP ||
	       call == CALL_ATTACH || call == CALL_REPLACE || call == CALL_BIND ||
	       call == CALL_TRACK;
}

static int restore_objects(struct broker *broker)
{
	int r = restore_devices(broker);

	register_memory(broker);
	if (!r)
		r = restore_tables(broker);
	return r ? r : restore_attachments(broker);
}

int broker_restore(struct broker *broker)
{
	struct book *book = broker->book;
	size_t ended;
	int r = shim_sweep(broker->shim, &book->ctx, book->open, &ended);

	if (r)
		return r;
	assert_true(!ended || book->intent.call == CALL_OPEN);
	if (!book->open) {
		done(broker);
		return 0;
	}
	r = shim_ctx_restore(broker->shim, "org", &book->ctx, &broker->ctx);
	if (r == SHIM_E_GONE && book->intent.call == CALL_CLOSE) {
		drop_everything(broker);
		done(broker);
		return 0;
	}
	if (!r)
		r = restore_objects(broker);
	if (r)
		return r;
	if (book->intent.call == CALL_CLOSE)
		return broker_close(broker);
	r = settle(broker);
	if (r)
		return r;
	/* What was redone is in the book; what was undone is undone again, until all is restored.
	 */
	if (!is_undone(book->intent.call))
		done(broker);
	r = shim_ctx_restored(broker->ctx, &broker->strays);
	if (r)
		return r;
	done(broker);
	for (unsigned i = 0; i < BOOK_TABLES; i++)
		if (book->pts[i].there)
			shim_pt_save(broker->pts[i], &book->pts[i].saved);
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		struct book_attachment *a = &book->attachments[i];

		if (a->there)
			shim_attach_save(broker->devs[a->dev], a->pasid, &a->saved);
	}
	return 0;
}

/* ---- whether everything agrees ---- */

static struct fake_context *context_of(struct book *book)
{
	struct keeper_context_id id;
	bool delegated;

	assert_int_equal(iommufd_load_context(&book->ctx, &id, &delegated), 0);
	return &book->fake.contexts[id.value - 100];
}

static bool has_area(const struct fake_object *ioas, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < ioas->n_areas; i++)
		if (ioas->areas[i].iova == iova && ioas->areas[i].length == length)
			return true;
	return false;
}

static void check_table(const struct broker *broker, const struct fake_context *c, unsigned pt)
{
	const struct book_table *t = &broker->book->pts[pt];
	const struct fake_object *ioas = &c->objects[iommufd_pt_of(broker->pts[pt])->ioas];
	size_t n = 0;

	assert_int_equal(ioas->type, FAKE_IOAS);
	for (size_t i = 0; i < t->n_maps; i++)
		for (uint64_t at = 0; at < t->maps[i].length; at += IOMMUFD_CHUNK, n++) {
			uint64_t left = t->maps[i].length - at;

			assert_true(has_area(ioas, t->maps[i].iova + at,
					     left < IOMMUFD_CHUNK ? left : IOMMUFD_CHUNK));
		}
	assert_int_equal(ioas->n_areas, n);
	assert_int_equal(shim_pt_table_bytes(broker->pts[pt]), t->bytes);
}

static uint32_t attached_to(const struct fake_device *d, uint32_t pasid)
{
	if (pasid == SHIM_NO_PASID)
		return d->attached;
	for (size_t i = 0; i < FAKE_PASIDS; i++)
		if (d->pts[i] && d->pasids[i] == pasid)
			return d->pts[i];
	return 0;
}

/* What a device is attached to in the kernel is what the table is. */
static void check_attached(const struct broker *broker, const struct fake_context *c, uint32_t id,
			   unsigned pt)
{
	const struct book_table *t = &broker->book->pts[pt];
	const struct fake_object *o = &c->objects[id];
	uint32_t ioas = iommufd_pt_of(broker->pts[pt])->ioas;

	assert_int_not_equal(id, 0);
	if (o->type == FAKE_IOAS) {
		assert_int_equal(id, ioas);
		assert_false(t->root || t->spec.faults || t->spec.dirty);
		return;
	}
	assert_int_equal(o->type, FAKE_HWPT);
	assert_int_equal(o->tracked, t->tracked);
	/* With page requests, and to a queue that this broker reads. */
	assert_int_equal(!!(o->flags & IOMMU_HWPT_FAULT_ID_VALID), t->spec.faults);
	if (t->spec.faults)
		assert_int_equal(o->queue, c->queue);
	if (!t->root) {
		assert_int_equal(o->ioas, ioas);
		return;
	}
	assert_int_equal(o->data.pgtbl_addr, t->root);
	assert_int_equal(c->objects[o->parent].ioas,
			 iommufd_pt_of(broker->pts[t->spec.parent])->ioas);
}

static void check_device(const struct broker *broker, const struct fake_context *c, unsigned dev)
{
	struct book *book = broker->book;
	const struct fake_device *d = fake_device(&book->fake, book_addresses[dev]);
	size_t n = 0, n_recorded = 0;

	if (!book->devs[dev].there) {
		assert_false(d->claimed);
		assert_int_equal(d->fds, d->tenants);
		return;
	}
	assert_true(d->claimed && d->kept);
	assert_int_equal(d->fds, 1 + d->tenants);
	assert_ptr_equal(d->bound, c);
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		const struct book_attachment *a = &book->attachments[i];

		if (!a->there || a->dev != dev)
			continue;
		n_recorded++;
		check_attached(broker, c, attached_to(d, a->pasid), a->pt);
	}
	n = d->attached != 0;
	for (size_t i = 0; i < FAKE_PASIDS; i++)
		n += d->pts[i] != 0;
	assert_int_equal(n, n_recorded);
}

static size_t count(const struct fake_context *c, enum fake_type type)
{
	size_t n = 0;

	for (size_t i = 0; i < FAKE_OBJECTS; i++)
		n += c->objects[i].type == type;
	return n;
}

static size_t count_contexts(const struct fake *fake)
{
	size_t n = 0;

	for (size_t i = 0; i < FAKE_CONTEXTS; i++)
		n += fake->contexts[i].kept || fake->contexts[i].open;
	return n;
}

void broker_check(struct broker *broker)
{
	struct book *book = broker->book;
	size_t n_tables = 0, n_devices = 0;
	struct fake_context *c;

	assert_int_equal(count_contexts(&book->fake), book->open);
	if (!book->open) {
		fake_expect_empty(&book->fake);
		return;
	}
	c = context_of(book);
	for (unsigned i = 0; i < BOOK_TABLES; i++)
		if (book->pts[i].there) {
			n_tables++;
			check_table(broker, c, i);
		}
	for (unsigned i = 0; i < BOOK_DEVICES; i++) {
		n_devices += book->devs[i].there;
		check_device(broker, c, i);
	}
	assert_int_equal(count(c, FAKE_IOAS), n_tables);
	assert_int_equal(count(c, FAKE_DEVICE), n_devices);
	assert_true(count(c, FAKE_QUEUE) <= 1);
	/* A table of hardware that nobody uses is one too many. */
	for (size_t i = 0; i < FAKE_OBJECTS; i++)
		if (c->objects[i].type == FAKE_HWPT)
			assert_true(c->objects[i].users);
}

void book_note_disturbed(struct book *book)
{
	for (unsigned i = 0; i < BOOK_DEVICES; i++)
		book->disturbed[i] = fake_device(&book->fake, book_addresses[i])->disturbed;
}

void book_check_undisturbed(const struct book *book, unsigned but)
{
	for (unsigned i = 0; i < BOOK_DEVICES; i++)
		if (i != but)
			assert_int_equal(book->fake.devices[i].disturbed, book->disturbed[i]);
}
