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

/* Tables of the scenario. */
enum { A, B, C, D };

struct operation {
	const char *name;
	int (*run)(struct broker *broker);
	unsigned dev; /* what it is about; BOOK_DEVICES: no device */
	bool with_group;
};

static const struct book_mapping small = {0, K4}, large = {G1, G1 / 2 + K4};
static const struct book_mapping more[] = {{4 * G1, K4}, {8 * G1, G1}};

/* A busy context: its devices are where they are while everything else happens. */
static void build(struct broker *broker, bool with_group)
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
	if (with_group) {
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
		build(&broker, op->with_group);
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

/* What a context is for still works. */
static void go_on(struct broker *broker)
{
	struct book *book = broker->book;

	if (!book->open)
		assert_int_equal(broker_open(broker), 0);
	if (!book->devs[DEV2].there)
		assert_int_equal(broker_claim(broker, DEV2, 1), 0);
	if (!book->pts[D].there)
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
	for (unsigned pt = A; pt <= D; pt++) {
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
	/* Once more, in order: there is nothing left to be done. */
	broker_stop(&broker);
	broker_start(&broker, book, tree);
	assert_int_equal(broker_restore(&broker), 0);
	assert_int_equal(broker.strays, 0);
	broker_check(&broker);
	expect_undisturbed(op, book);
	go_on(&broker);
	broker_stop(&broker);
}

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
			unsigned n = crash_everywhere(&operations[i], way, &tree);

			if (!way)
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
	};
	struct fake_tree tree;
	unsigned n = 0;

	fake_tree_standard(&tree);
	for (size_t i = 0; i < N_OPERATIONS; i++) {
		const struct operation *op = &operations[i];
		bool more_calls = false;

		for (size_t k = 0; k < sizeof(some) / sizeof(some[0]); k++)
			more_calls = more_calls || some[k] == op->run;
		for (uint64_t at = 1; more_calls; at++, n++) {
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
