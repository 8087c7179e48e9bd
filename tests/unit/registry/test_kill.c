/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed at random moments: while it appends, compacts or starts.  What is read then
 * is what it had done, to the last batch or the one before its report, and nothing else.
 *
 * Change n puts memory n and drops memory n - WINDOW, in one batch.  So whatever was read must be
 * a window without a gap.
 */
#include "fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WINDOW 40u
#define ROUNDS 80u

static void build(Ioasid__Registry__Memory *memory, uint64_t n)
{
	static char label[65];

	*memory = (Ioasid__Registry__Memory)IOASID__REGISTRY__MEMORY__INIT;
	memset(label, 'x', 64);
	label[n % 64] = 0;
	memory->id = n;
	memory->length = 4096 * n;
	memory->label = label;
}

static void one_change(struct fixture *f, uint64_t n)
{
	Ioasid__Registry__Memory memory;
	Ioasid__Registry__Memory *memories[] = {&memory};
	Ioasid__Registry__Drop d = IOASID__REGISTRY__DROP__INIT;
	Ioasid__Registry__Drop *drops[] = {&d};
	BATCH(batch);

	build(&memory, n);
	batch.memories = memories;
	batch.n_memories = 1;
	batch.drops = drops;
	if (n > WINDOW) {
		d.memory = n - WINDOW;
		batch.n_drops = 1;
	}
	put(f, 1, &batch);
}

static void append_lease(struct fixture *f)
{
	LEASE(lease);
	BATCH(batch);

	lease.tenant = TEXT("org");
	batch.lease = &lease;
	if (registry_append_new(f->registry, 1, &batch))
		_exit(2);
}

static void append_memory(struct fixture *f, uint64_t n)
{
	Ioasid__Registry__Memory memory;
	Ioasid__Registry__Memory *memories[] = {&memory};
	BATCH(batch);

	build(&memory, n);
	batch.memories = memories;
	batch.n_memories = 1;
	if (registry_append_new(f->registry, 1, &batch))
		_exit(3);
}

/* The newest change; its window is whole. */
static uint64_t newest(const struct registry_image *image)
{
	const struct registry_lease *l;
	uint64_t last;

	assert_int_equal(image->damaged, 0);
	if (!image->n_leases)
		return 0;
	l = &image->leases[0];
	assert_string_equal(l->damage, "");
	if (!l->n_memories)
		return 0;
	last = l->memories[l->n_memories - 1]->id;
	assert_int_equal(l->n_memories, last < WINDOW ? last : WINDOW);
	for (size_t i = 0; i < l->n_memories; i++) {
		Ioasid__Registry__Memory memory;

		build(&memory, last - l->n_memories + 1 + i);
		assert_int_equal(l->memories[i]->id, memory.id);
		assert_int_equal(l->memories[i]->length, memory.length);
		assert_string_equal(l->memories[i]->label, memory.label);
	}
	return last;
}

static void run(struct fixture *f, volatile uint64_t *done)
{
	const struct registry_options options = {.slack = 16384};
	uint64_t n;

	fixture_open(f, &options);
	n = f->image ? newest(f->image) : 0;
	if (registry_begin(f->registry, &test_boot, NULL))
		_exit(4);
	append_lease(f);
	for (uint64_t i = n > WINDOW ? n - WINDOW + 1 : 1; i <= n; i++)
		append_memory(f, i);
	if (registry_commit(f->registry))
		_exit(5);
	for (;;) {
		if (registry_wants_compaction(f->registry)) {
			if (registry_begin(f->registry, &test_boot, NULL))
				_exit(6);
			append_lease(f);
			/* With a change between any two of the snapshot. */
			for (uint64_t i = n > WINDOW ? n - WINDOW + 1 : 1; i <= n; i++) {
				if (i + WINDOW > n)
					append_memory(f, i);
				if (i % 3 == 0) {
					one_change(f, n + 1);
					*done = ++n;
				}
			}
			if (registry_commit(f->registry))
				_exit(7);
		}
		one_change(f, n + 1);
		*done = ++n;
	}
}

static void a_kill_leaves_a_prefix(void **state)
{
	struct fixture *f = *state;
	volatile uint64_t *done =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t compacted = 0;

	assert_true(done != MAP_FAILED);
	srand(1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t pid = fork();
		uint64_t last;
		int status;

		assert_true(pid >= 0);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			run(f, done);
		}
		usleep((useconds_t)(rand() % (round % 4 ? 9000 : 900)));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		registry_image_free(f->image);
		f->image = NULL;
		if (registry_load(f->folder, &f->image, &f->problem) == REGISTRY_E_NONE)
			continue;
		last = newest(fixture_load(f));
		assert_true(last == *done || last == *done + 1);
		*done = last;
		if (f->image->generation > round + 1)
			compacted = f->image->generation;
	}
	assert_true(compacted > 0);
	assert_true(*done > 1000);
	munmap((void *)done, 4096);
}

/* A reader without the lock, while a writer appends and compacts. */
static void a_reader_sees_no_damage(void **state)
{
	struct fixture *f = *state;
	volatile uint64_t *done =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t before = 0, seen;
	unsigned loaded = 0, again = 0;
	int status;
	pid_t pid;

	assert_true(done != MAP_FAILED);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(f, done);
	}
	while (loaded < 300) {
		int r;

		registry_image_free(f->image);
		f->image = NULL;
		r = registry_load(f->folder, &f->image, &f->problem);
		/* It is replaced all the time here. */
		if (r == -EAGAIN || r == REGISTRY_E_NONE) {
			again++;
			continue;
		}
		assert_int_equal(r, 0);
		seen = newest(f->image);
		assert_true(seen >= before);
		before = seen;
		loaded++;
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	munmap((void *)done, 4096);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_kill_leaves_a_prefix),
		TEST(a_reader_sees_no_damage),
	};

	return cmocka_run_group_tests_name("registry kill", tests, NULL, NULL);
}
