/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A broker is killed at every call that it makes to the kernel or the keeper, and between a
 * call's end and its result: for each operation a process is forked that has a busy context,
 * begins the operation and ends there.  The next broker restores what the book knows.  Then
 * nothing may be there that the book does not have, nothing may be missing, no device but
 * the one that the operation was about may have noticed, and everything must go on working.
 */

#include "book.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Tables of the scenario: A to D of kind KERNEL; with tenants' tables, N without page requests
 * and Q with them, both below A, and T, which is tracked. */
enum { A, B, C, D, N, Q, T };

struct operation {
	const char *name;
	int (*run)(struct broker *broker);
	unsigned dev; /* what it is about; BOOK_DEVICES: no device */
	bool with_group;
	bool with_tenants;
};

static const struct book_mapping small = {0, K4}, large = {G1, G1 / 2 + K4};
static const struct book_mapping more[] = {{4 * G1, K4}, {8 * G1, G1}}, pages = {0, 8 * K4};

#define ROOT1 0x5000u
#define ROOT2 0x6000u

/*
 * On LARGE, whose IOMMU nests: PASID 9 is at a tenant's table, 10 at one with page requests, where
 * one waits, 11 at one that is tracked, where a page is dirty.
 */
static void build_tenants(struct broker *broker)
{
	static const struct book_spec nested = {.user = true, .parent = A, .root = ROOT1},
				      asking = {.user = true, .parent = A, .faults = true},
				      tracked = {.dirty = true};
	struct fake *fake = &broker->book->fake;

	assert_int_equal(broker_alloc_as(broker, N, &nested), 0);
	assert_int_equal(broker_alloc_as(broker, Q, &asking), 0);
	assert_int_equal(broker_alloc_as(broker, T, &tracked), 0);
	assert_int_equal(broker_map(broker, T, &pages, 1, NULL), 0);
	assert_int_equal(broker_attach(broker, LARGE, 9, N), 0);
	assert_int_equal(broker_attach(broker, LARGE, 10, Q), 0);
	assert_int_equal(broker_bind(broker, Q, ROOT1), 0);
	assert_int_equal(broker_attach(broker, LARGE, 11, T), 0);
	assert_int_equal(broker_track(broker, T, true), 0);
	fake_write(fake, book_addresses[LARGE], 11, 3 * K4);
	fake_request_page(fake, book_addresses[LARGE], 10, 4, 0x7000, true);
}

/* A busy context: its devices are where they are while everything else happens. */
static void build(struct broker *broker, const struct operation *op)
{
	assert_int_equal(broker_open(broker), 0);
	assert_int_equal(broker_claim(broker, DEV, 1), 0);
	assert_int_equal(broker_claim(broker, DEV2, 1), 0);
	assert_int_equal(broker_claim(broker, LARGE, 1), 0);
	for (unsigned pt = A; pt <= C; pt++)
		assert_int_equal(broker_alloc(broker, pt), 0);
	assert_int_equal(broker_map(broker, A, &small, 1, NULL), 0);
	assert_int_equal(broker_map(broker, A, &large, 1, NULL), 0);
	assert_int_equal(broker_map(broker, B, &small, 1, NULL), 0);
	assert_int_equal(broker_attach(broker, DEV, SHIM_NO_PASID, A), 0);
	assert_int_equal(broker_attach(broker, DEV2, SHIM_NO_PASID, A), 0);
	assert_int_equal(broker_attach(broker, LARGE, SHIM_NO_PASID, A), 0);
	assert_int_equal(broker_attach(broker, LARGE, 5, A), 0);
	assert_int_equal(broker_attach(broker, LARGE, 6, A), 0);
	assert_int_equal(broker_attach(broker, LARGE, 7, C), 0);
	if (op->with_tenants)
		build_tenants(broker);
	if (op->with_group) {
		assert_int_equal(broker_claim(broker, GROUP_A, 2), 0);
		assert_int_equal(broker_attach(broker, GROUP_B, SHIM_NO_PASID, B), 0);
	}
	broker_check(broker);
	book_note_disturbed(broker->book);
}

static int op_open(struct broker *b)
{
	struct shim_ctx *ctx;

	/* A second one, of which the book knows nothing. */
	b->book->intent.call = CALL_OPEN;
	return shim_ctx_new(b->shim, "org/two", NULL, &ctx);
}
static int op_close(struct broker *b)
{
	return broker_close(b);
}
static int op_claim(struct broker *b)
{
	return broker_claim(b, GROUP_A, 2);
}
static int op_release(struct broker *b)
{
	return broker_release(b, DEV2);
}
static int op_release_pasids(struct broker *b)
{
	return broker_release(b, LARGE);
}
static int op_release_companion(struct broker *b)
{
	return broker_release(b, GROUP_A);
}
static int op_alloc(struct broker *b)
{
	return broker_alloc(b, D);
}
static int op_free(struct broker *b)
{
	return broker_free(b, B);
}
static int op_map(struct broker *b)
{
	return broker_map(b, B, more, 2, NULL);
}
static int op_map_attached(struct broker *b)
{
	return broker_map(b, A, more, 2, NULL);
}
static int op_map_cancelled(struct broker *b)
{
	struct shim_cancel cancel = {0};

	b->book->fake.cancel = &cancel;
	b->book->fake.maps = 0;
	b->book->fake.cancel_after = 3;
	return broker_map(b, B, more, 2, &cancel) == -ECANCELED ? 0 : -EINVAL;
}
static int op_unmap(struct broker *b)
{
	const struct book_mapping both[] = {large, small};

	return broker_unmap(b, A, both, 2);
}
static int op_attach(struct broker *b)
{
	return broker_attach(b, GROUP_A, SHIM_NO_PASID, B);
}
static int op_attach_pasid(struct broker *b)
{
	return broker_attach(b, LARGE, 8, B);
}
static int op_replace(struct broker *b)
{
	return broker_replace(b, DEV2, SHIM_NO_PASID, B);
}
static int op_replace_shared(struct broker *b)
{
	return broker_replace(b, LARGE, 6, B);
}
static int op_replace_alone(struct broker *b)
{
	return broker_replace(b, LARGE, 7, A);
}
static int op_replace_alone_by_new(struct broker *b)
{
	return broker_replace(b, LARGE, 7, B);
}
static int op_replace_plain_of_pasids(struct broker *b)
{
	return broker_replace(b, LARGE, SHIM_NO_PASID, B);
}
static int op_detach(struct broker *b)
{
	return broker_detach(b, DEV2, SHIM_NO_PASID);
}
static int op_detach_shared(struct broker *b)
{
	return broker_detach(b, LARGE, 6);
}
static int op_detach_alone(struct broker *b)
{
	return broker_detach(b, LARGE, 7);
}

static int op_alloc_nested(struct broker *b)
{
	static const struct book_spec spec = {
		.user = true, .parent = A, .root = ROOT2, .faults = true};

	return broker_alloc_as(b, D, &spec);
}
static int op_free_nested(struct broker *b)
{
	return broker_detach(b, LARGE, 9) ?: broker_free(b, N);
}
static int op_bind(struct broker *b)
{
	return broker_bind(b, N, ROOT2);
}
static int op_bind_asking(struct broker *b)
{
	return broker_bind(b, Q, ROOT2);
}
static int op_unbind(struct broker *b)
{
	return broker_bind(b, N, 0);
}
static int op_unbind_and_bind(struct broker *b)
{
	return broker_bind(b, Q, 0) ?: broker_bind(b, Q, ROOT2);
}
static int op_attach_nested(struct broker *b)
{
	return broker_attach(b, LARGE, 12, N);
}
static int op_attach_asking(struct broker *b)
{
	return broker_attach(b, LARGE, 12, Q);
}
static int op_replace_by_nested(struct broker *b)
{
	return broker_replace(b, LARGE, 7, N);
}
static int op_replace_by_asking(struct broker *b)
{
	return broker_replace(b, LARGE, 9, Q);
}
static int op_replace_nested(struct broker *b)
{
	return broker_replace(b, LARGE, 9, A);
}
static int op_detach_asking(struct broker *b)
{
	return broker_detach(b, LARGE, 10);
}
static int op_track(struct broker *b)
{
	return broker_track(b, T, true);
}
static int op_track_no_more(struct broker *b)
{
	return broker_track(b, T, false);
}
static int op_unmap_tracked(struct broker *b)
{
	return broker_unmap(b, T, &pages, 1);
}
/* Nothing of it is written down. */
static int op_read_dirty(struct broker *b)
{
	unsigned dirty = broker_dirty(b, T);

	if (b->ends_before_result)
		_exit(FAKE_CRASHED);
	return dirty == 1u << 3 ? 0 : -EINVAL;
}
static int op_answer(struct broker *b)
{
	struct shim_report report;
	size_t n = 0;
	int r = shim_ctx_read_reports(b->ctx, &report, 1, &n);

	if (!r)
		r = n == 1 ? shim_ctx_answer(b->ctx, report.cookie, true) : -EINVAL;
	if (b->ends_before_result)
		_exit(FAKE_CRASHED);
	return r;
}
static int op_invalidate(struct broker *b)
{
	struct shim_invalidate all = {.scope = SHIM_INVALIDATE_ALL};
	size_t n;
	int r = shim_pt_invalidate(b->pts[N], &all, 1, &n);

	if (b->ends_before_result)
		_exit(FAKE_CRASHED);
	return r;
}

static const struct operation operations[] = {
	{"open", op_open, BOOK_DEVICES, false},
	{"close", op_close, BOOK_DEVICES, true},
	{"claim", op_claim, BOOK_DEVICES, false},
	{"release", op_release, DEV2, true},
	{"release with PASIDs", op_release_pasids, LARGE, true},
	{"release of a companion", op_release_companion, GROUP_A, true},
	{"alloc", op_alloc, BOOK_DEVICES, true},
	{"free", op_free, BOOK_DEVICES, false},
	{"map", op_map, BOOK_DEVICES, false},
	{"map where devices are attached", op_map_attached, BOOK_DEVICES, false},
	{"map that is given up", op_map_cancelled, BOOK_DEVICES, false},
	{"unmap", op_unmap, BOOK_DEVICES, false},
	{"attach", op_attach, GROUP_A, true},
	{"attach a PASID", op_attach_pasid, LARGE, false},
	{"replace", op_replace, DEV2, false},
	{"replace one of two PASIDs", op_replace_shared, LARGE, false},
	{"replace by what is there", op_replace_alone, LARGE, false},
	{"replace the last of a table", op_replace_alone_by_new, LARGE, false},
	{"replace where PASIDs are", op_replace_plain_of_pasids, LARGE, false},
	{"detach", op_detach, DEV2, false},
	{"detach one of two PASIDs", op_detach_shared, LARGE, false},
	{"detach the last of a table", op_detach_alone, LARGE, false},
	{"close with tenants' tables", op_close, BOOK_DEVICES, true, true},
	{"release from tenants' tables", op_release_pasids, LARGE, false, true},
	{"alloc of a tenant's table", op_alloc_nested, LARGE, false, true},
	{"free of a tenant's table", op_free_nested, LARGE, false, true},
	{"bind", op_bind, LARGE, false, true},
	{"bind where pages are asked for", op_bind_asking, LARGE, false, true},
	{"unbind", op_unbind, LARGE, false, true},
	{"unbind and bind where pages are asked for", op_unbind_and_bind, LARGE, false, true},
	{"attach to a tenant's table", op_attach_nested, LARGE, false, true},
	{"attach where pages are asked for", op_attach_asking, LARGE, false, true},
	{"replace by a tenant's table", op_replace_by_nested, LARGE, false, true},
	{"replace by one where pages are asked for", op_replace_by_asking, LARGE, false, true},
	{"replace of a tenant's table", op_replace_nested, LARGE, false, true},
	{"detach where pages are asked for", op_detach_asking, LARGE, false, true},
	{"track again", op_track, LARGE, false, true},
	{"track no more", op_track_no_more, LARGE, false, true},
	{"unmap what is tracked", op_unmap_tracked, LARGE, false, true},
	{"read what is dirty", op_read_dirty, LARGE, false, true},
	{"read and answer a page request", op_answer, LARGE, false, true},
	{"invalidate", op_invalidate, LARGE, false, true},
};
#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* Whether the process was killed as it was meant to. */
static bool killed(pid_t pid, const char *what, uint64_t at)
{
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != FAKE_CRASHED))
		fail_msg("%s, call %llu: status %x", what, (unsigned long long)at, status);
	return WEXITSTATUS(status);
}

/* A failed assertion in a fork must not go on with the other tests. */
static pid_t fork_for_one(void)
{
	pid_t pid;

	fflush(stdout);
	fflush(stderr);
	pid = fork();
	if (!pid)
		setenv("CMOCKA_TEST_ABORT", "1", 1);
	return pid;
}

/* at 0: when the operation has done its work.  Whether there was such a call. */
static bool crash(const struct operation *op, uint64_t at, struct book *book,
		  const struct fake_tree *tree)
{
	pid_t pid = fork_for_one();
	struct broker broker;
	bool was;

	if (!pid) {
		broker_start(&broker, book, tree);
		build(&broker, op);
		book->fake.calls = 0;
		book->fake.crash_at = at;
		broker.ends_before_result = !at;
		if (op->run(&broker))
			_exit(1);
		_exit(at ? 0 : FAKE_CRASHED);
	}
	was = killed(pid, op->name, at);
	book->fake.crash_at = 0;
	book->fake.cancel = NULL;
	if (was)
		fake_broker_is_gone(&book->fake);
	return was;
}

/* The table that the book has there; NULL: none. */
static const struct book_table *attached(const struct book *book, unsigned dev, uint32_t pasid)
{
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		const struct book_attachment *a = &book->attachments[i];

		if (a->there && a->dev == dev && a->pasid == pasid)
			return &book->pts[a->pt];
	}
	return NULL;
}

/* A page that was dirty when the broker died is told of, if the book says that it is tracked. */
static void check_dirty(const struct operation *op, struct broker *broker)
{
	struct book *book = broker->book;
	unsigned dirty;

	if (!op->with_tenants || !book->pts[T].there || !book->pts[T].tracked)
		return;
	dirty = broker_dirty(broker, T);
	/* Unless the broker has read it, or the mapping is gone. */
	if (book->pts[T].n_maps && op->run != op_read_dirty &&
	    attached(book, LARGE, 11) == &book->pts[T])
		assert_true(dirty & 1u << 3);
	if (book->pts[T].n_maps)
		return;
	assert_int_equal(dirty, 0);
}

/* A device that can ask for pages is heard, and what waited before is not. */
static void check_requests(struct broker *broker)
{
	struct book *book = broker->book;
	struct shim_report report;
	size_t n = 77;

	if (!book->open || attached(book, LARGE, 10) != &book->pts[Q])
		return;
	assert_int_equal(shim_ctx_read_reports(broker->ctx, &report, 1, &n), 0);
	assert_int_equal(n, 0);
	fake_request_page(&book->fake, book_addresses[LARGE], 10, 5, 0x8000, true);
	assert_int_equal(shim_ctx_read_reports(broker->ctx, &report, 1, &n), 0);
	assert_int_equal(n, 1);
	assert_ptr_equal(report.dev, broker->devs[LARGE]);
	assert_int_equal(report.pasid, 10);
	assert_int_equal(report.fault.address, 0x8000);
	assert_int_equal(shim_ctx_answer(broker->ctx, report.cookie, true), 0);
}

/* What a context is for still works. */
static void go_on(struct broker *broker)
{
	struct book *book = broker->book;

	if (!book->open)
		assert_int_equal(broker_open(broker), 0);
	if (!book->devs[DEV2].there)
		assert_int_equal(broker_claim(broker, DEV2, 1), 0);
	if (book->pts[D].there)
		assert_int_equal(broker_free(broker, D), 0);
	assert_int_equal(broker_alloc(broker, D), 0);
	assert_int_equal(broker_map(broker, D, more, 2, NULL), 0);
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		struct book_attachment *a = &book->attachments[i];

		if (a->there)
			assert_int_equal(broker_replace(broker, a->dev, a->pasid, D), 0);
	}
	broker_check(broker);
	for (size_t i = 0; i < BOOK_ATTACHMENTS; i++) {
		struct book_attachment *a = &book->attachments[i];

		if (a->there)
			assert_int_equal(broker_detach(broker, a->dev, a->pasid), 0);
	}
	/* Children come after their parents, and go before them. */
	for (unsigned pt = BOOK_TABLES; pt--;) {
		struct book_table *t = &book->pts[pt];

		while (t->n_maps) {
			struct book_mapping last = t->maps[t->n_maps - 1];

			assert_int_equal(broker_unmap(broker, pt, &last, 1), 0);
		}
		if (t->there) {
			assert_int_equal(t->bytes, 0);
			assert_int_equal(broker_free(broker, pt), 0);
		}
	}
	broker_check(broker);
	for (unsigned dev = 0; dev < BOOK_DEVICES; dev++)
		if (book->devs[dev].there)
			assert_int_equal(broker_release(broker, dev), 0);
	broker_check(broker);
	assert_int_equal(broker_close(broker), 0);
	broker_check(broker);
}

static void expect_undisturbed(const struct operation *op, const struct book *book)
{
	if (op->run != op_close)
		book_check_undisturbed(book, op->dev);
}

static void restore(const struct operation *op, unsigned way, struct book *book,
		    const struct fake_tree *tree)
{
	struct broker broker;

	broker_start(&broker, book, tree);
	broker.undoes_unmap = broker.replaces_back = way;
	assert_int_equal(broker_restore(&broker), 0);
	broker_check(&broker);
	expect_undisturbed(op, book);
	check_dirty(op, &broker);
	check_requests(&broker);
	/* Once more, in order: there is nothing left to be done. */
	broker_stop(&broker);
	broker_start(&broker, book, tree);
	assert_int_equal(broker_restore(&broker), 0);
	/* But for the queue of page requests, which is made anew with each broker. */
	assert_int_equal(broker.strays, book->open && book->pts[Q].there);
	broker_check(&broker);
	expect_undisturbed(op, book);
	check_requests(&broker);
	go_on(&broker);
	broker_stop(&broker);
}

/*
 * A sanitized process forks in some 100 ms: there, each operation is tried in one way, the other
 * one's turn being the next operation's, and a restore is killed at every fifth call.
 */
#ifdef __SANITIZE_ADDRESS__
#define SPARSE true
#else
#define SPARSE false
#endif

static unsigned crash_everywhere(const struct operation *op, unsigned way,
				 const struct fake_tree *tree)
{
	unsigned n = 0;

	/* From the first call to the last, and then behind it. */
	for (bool more_calls = true; more_calls; n++) {
		struct book *book = book_new();

		more_calls = crash(op, n + 1, book, tree);
		if (!more_calls) {
			book_free(book);
			book = book_new();
			assert_true(crash(op, 0, book, tree));
		}
		restore(op, way, book, tree);
		book_free(book);
	}
	return n;
}

static void test_crash(void **state)
{
	struct fake_tree tree;
	unsigned total = 0;

	fake_tree_standard(&tree);
	for (size_t i = 0; i < N_OPERATIONS; i++)
		for (unsigned way = 0; way < 2; way++) {
			unsigned n;

			if (SPARSE && way != i % 2)
				continue;
			n = crash_everywhere(&operations[i], way, &tree);
			if (SPARSE || !way)
				print_message("%s: %u\n", operations[i].name, n);
			assert_true(n >= 2);
			total += n;
		}
	print_message("%u crashes\n", total);
	fake_tree_free(&tree);
}

/* ---- killed again, while it restores ---- */

/* Whether there was such a call of the restore's. */
static bool crash_again(const struct operation *op, uint64_t at, struct book *book,
			const struct fake_tree *tree)
{
	pid_t pid = fork_for_one();
	struct broker broker;
	bool was;

	if (!pid) {
		broker_start(&broker, book, tree);
		book->fake.calls = 0;
		book->fake.crash_at = at;
		_exit(broker_restore(&broker) ? 1 : 0);
	}
	was = killed(pid, op->name, at);
	book->fake.crash_at = 0;
	fake_broker_is_gone(&book->fake);
	return was;
}

static void test_crash_of_the_restore(void **state)
{
	static int (*const some[])(struct broker *) = {
		op_claim, op_release_pasids, op_map,
		op_unmap, op_attach_pasid,   op_replace_alone_by_new,
		op_bind,  op_bind_asking,    op_track_no_more,
	};
	struct fake_tree tree;
	unsigned n = 0;

	fake_tree_standard(&tree);
	for (size_t i = 0; i < N_OPERATIONS; i++) {
		const struct operation *op = &operations[i];
		bool more_calls = false;

		for (size_t k = 0; k < sizeof(some) / sizeof(some[0]); k++)
			more_calls = more_calls || some[k] == op->run;
		for (uint64_t at = 1; more_calls; at += SPARSE ? 5 : 1, n++) {
			struct book *book = book_new();

			assert_true(crash(op, 0, book, &tree));
			more_calls = crash_again(op, at, book, &tree);
			restore(op, 0, book, &tree);
			book_free(book);
		}
	}
	print_message("%u crashes\n", n);
	fake_tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash),
		cmocka_unit_test(test_crash_of_the_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
