/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested DMA behind an SMMUv3 through kills of ioasidd, with tables of tenants bound.
 *
 *	nested_restart TENANTS-SOCKET ADMIN-SOCKET EDU EDU DAEMON
 *
 * ana has a table bound, through a descriptor of the broker's; bob descriptors of his own.  A
 * thread each drives the device without a pause, memory to device to memory through both stages,
 * and compares every byte, while DAEMON (lib/daemon) kills and starts ioasidd.  Afterwards the
 *tenants, which come back by themselves, find their tables bound, and invalidate, hear of faults,
 *bind, unbind and free.
 */
#include "nested_scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct loop {
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong rounds;
	unsigned long wrong;
	int memfd, cdev;
	uint8_t *bytes;
	struct edu edu;
};

static struct nested_tenant ana, bob;
static struct loop loops[2];
static const char *daemon_path;

/* ---- DMA without a pause ---- */

static void *loop_run(void *data)
{
	struct loop *loop = data;
	uint8_t *from = loop->bytes + A * ACTOR_PAGE, *to = loop->bytes + TARGET * ACTOR_PAGE;

	while (!loop->stop) {
		memset(to, 0xee, ACTOR_BYTES);
		must(edu_to_device(&loop->edu, iova(AT_X), ACTOR_BYTES), "the device reads");
		must(edu_from_device(&loop->edu, iova(AT_TARGET), ACTOR_BYTES),
		     "the device writes");
		loop->wrong += memcmp(from, to, ACTOR_BYTES) != 0;
		loop->rounds++;
	}
	return NULL;
}

static void loop_start(struct loop *loop, struct nested_tenant *t)
{
	actor_take_fds(&t->actor, &loop->memfd, &loop->cdev);
	loop->bytes = mmap(NULL, (size_t)ACTOR_PAGES * ACTOR_PAGE, PROT_READ | PROT_WRITE,
			   MAP_SHARED, loop->memfd, 0);
	loop->stop = false;
	loop->rounds = loop->wrong = 0;
	if (loop->bytes == MAP_FAILED || edu_open(loop->cdev, &loop->edu) ||
	    pthread_create(&loop->thread, NULL, loop_run, loop)) {
		report(0, "what the actor has", "cannot be used");
		exit(1);
	}
}

static void loop_stop(struct loop *loop)
{
	loop->stop = true;
	pthread_join(loop->thread, NULL);
	edu_close(&loop->edu);
	close(loop->cdev);
	munmap(loop->bytes, (size_t)ACTOR_PAGES * ACTOR_PAGE);
	close(loop->memfd);
}

/* Three rounds of each that began after this, within a minute. */
static void expect_rounds(const char *name)
{
	unsigned long before[2] = {loops[0].rounds, loops[1].rounds};
	bool on = false;

	for (int i = 0; i < 6000 && !on; i++) {
		usleep(10000);
		on = loops[0].rounds >= before[0] + 4 && loops[1].rounds >= before[1] + 4;
	}
	report(on, name, "a loop stands still");
}

/* Without a shell: the arm64 guest has none by the name sh. */
static void broker_does(const char *what)
{
	char name[32];
	int status = -1;
	pid_t pid;

	snprintf(name, sizeof(name), "broker %s", what);
	/* What it prints and what this has are in one file. */
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl(daemon_path, daemon_path, "broker", what, NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	expect(status, 0, name);
}

/* ---- the cases ---- */

static void begin(struct nested_tenant *t)
{
	struct actor *a = &t->actor;

	t->user =
		(uint64_t)must(DO(a, ACT_ALLOC_USER, .text = t->device, .a = t->parent, .b = BITS),
			       "a table of 39 bits");
	must(DO(a, ACT_ATTACH, .text = t->device, .a = t->user), "attach");
}

static void killed_and_started(void)
{
	loop_start(&loops[0], &ana);
	loop_start(&loops[1], &bob);
	expect_rounds("DMA through both stages");
	broker_does("kill");
	expect_rounds("the broker is killed: DMA goes on");
	broker_does("start");
	expect_rounds("another one has started: DMA goes on");
	for (int i = 0; i < 2; i++) {
		loop_stop(&loops[i]);
		printf("# %lu rounds\n", (unsigned long)loops[i].rounds);
		expect((int64_t)loops[i].wrong, 0, "all the while no byte was wrong");
	}
}

static void still_bound(struct nested_tenant *t, unsigned root)
{
	struct actor *a = &t->actor;

	expect(DO(a, ACT_BOUND, .a = t->user), (int64_t)gpa(root), "what was bound is bound");
	expect(DO(a, ACT_WIDTH, .a = t->user), BITS, "it has 39 bits");
	reach(t, AT_X, A, "and reached");
	reach_at(t, IOVA_BEYOND + AT_X * ACTOR_PAGE, UNTOUCHED, "bit 39 is beyond it");
	move_x(t, B);
	reach(t, AT_X, A, "a changed entry is stale");
	expect(DO(a, ACT_INVALIDATE, .a = t->user, .b = IOASID_GRANULARITY_RANGE, .c = iova(AT_X),
		  .d = ACTOR_PAGE, .e = true),
	       1, "invalidate");
	reach(t, AT_X, B, "fresh");
	move_x(t, A);
	expect(DO(a, ACT_NATIVE, .a = t->user, .text = "10 0"), 1, "TLBI_NH_ALL");
	reach(t, AT_X, A, "fresh");
	drop_faults(t);
	reach(t, AT_MISSING, NOTHING, "an entry that is not there");
	faulted(t, IOASID_FAULT_NOT_PRESENT, iova(AT_MISSING), "is reported");
	expect(DO(a, ACT_ATTACH, .text = t->device, .a = t->user), -EEXIST, "it is attached");
}

static void others_invalidation(struct nested_tenant *t, struct nested_tenant *other)
{
	move_x(t, B);
	reach(t, AT_X, A, "a changed entry is stale");
	invalidate_all(other);
	expect(DO(&other->actor, ACT_NATIVE, .a = other->user, .text = "30 0"), 1,
	       "the other's NSNH_ALL");
	reach(t, AT_X, A, "another's invalidations leave it stale");
	move_x(t, A);
	invalidate_all(t);
}

/* What was bound before the kill goes, and something else comes. */
static void bound_anew(struct nested_tenant *t)
{
	struct actor *a = &t->actor;

	expect(DO(a, ACT_BIND_TABLE, .a = t->user, .b = gpa(OTHER_L1)), 0, "bind another table");
	reach(t, AT_X, D, "it is the other one's");
	expect(DO(a, ACT_BIND_TABLE, .a = t->user, .b = gpa(L1)), 0, "bind the first");
	reach(t, AT_X, A, "the first one's");
	must(DO(a, ACT_UNMAP_ALL, .a = t->parent), "unmap");
	reach(t, AT_X, UNTOUCHED, "the parent is unmapped: blocked at once");
	nested_map(t);
	reach(t, AT_X, A, "mapped again: lets it through");
}

/* Straight after a restart: nothing was bound anew before. */
static void end(struct nested_tenant *t, enum actor_op unbind)
{
	struct actor *a = &t->actor;

	expect(DO(a, unbind, .a = t->user), 0, "unbind");
	expect(DO(a, ACT_BOUND, .a = t->user), 0, "nothing is bound");
	reach(t, AT_X, UNTOUCHED, "nothing is reached");
	expect(DO(a, ACT_DETACH, .text = t->device), 0, "detach");
	expect(DO(a, ACT_FREE, .a = t->user), 0, "free the table");
	expect(DO(a, ACT_BOUND, .a = t->user), -ENOENT, "it is gone");
	expect(DO(a, ACT_FREE, .a = t->parent), 0, "free its parent");
	nested_close(t);
}

int main(int argc, char **argv)
{
	struct ioasid_client *admin;
	struct ioasid_error *error;

	if (argc != 6) {
		fprintf(stderr, "usage: nested_restart TENANTS ADMIN EDU EDU DAEMON\n");
		return 2;
	}
	daemon_path = argv[5];
	nested_open(&ana, UID_ANA, argv[1], argv[3], 20000);
	nested_open(&bob, UID_BOB, argv[1], argv[4], 30000);
	begin(&ana);
	begin(&bob);
	expect(DO(&ana.actor, ACT_BIND_TABLE, .a = ana.user, .b = gpa(L1)), 0, "a table is bound");
	set_cd(&bob, L1, ASID);
	expect(DO(&bob.actor, ACT_BIND_CDS, .a = bob.user, .b = gpa(CD)), 0,
	       "descriptors are bound");
	for (int i = 0; i < 2; i++) {
		killed_and_started();
		still_bound(&ana, L1);
		still_bound(&bob, CD);
		others_invalidation(&ana, &bob);
	}
	bound_anew(&ana);
	killed_and_started();
	end(&ana, ACT_UNBIND_TABLE);
	end(&bob, ACT_UNBIND_CDS);
	must(ioasid_connect(argv[2], NULL, &admin, &error), "connect as admin");
	director_check_idle(admin, "org/ana");
	director_check_idle(admin, "org/bob");
	ioasid_client_unref(admin);
	return report_failed;
}
