/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's DMA through restarts of the broker and of the keeper.
 *
 *	restart TENANTS-SOCKET EDU OTHER-EDU {NAME COMMAND}...
 *
 * A thread of this process drives the first device all the while, memory to device to memory,
 * by its registers alone, and compares every byte.  Beside it each COMMAND is run by the shell:
 * something ends or starts.  After each the loop must go on; and then, where NAME does not
 * begin with "without", the client asks for everything there is to ask, through libioasid,
 * which comes back by itself (Resume with the token of its old connection).  It does so with
 * the space in which the loop works, and with the other device, which comes and goes.  Where
 * NAME begins with "lost", nothing can be claimed: the keeper is gone, or has lost the context.
 *
 * Pages of the actor: 0 and 1 are the loop's, 2 is mapped and unmapped beside it, 4 and 5 are
 * the other device's, 6 must never be reached.
 */
#include "scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* Of the other device, in two spaces over the same pages. */
#define FIRST	0x400000u
#define SECOND	0x401000u
#define NOWHERE 0x402000u
#define OTHER	1u

/*
 * A round is two moves of 100 ms.  A busy machine may delay one; it is no more than that as long
 * as nobody has a lock of the device, or its registers taken from this process.
 */
#define PAUSE_MAX_US UINT64_C(3000000)

struct loop {
	struct remains remains;
	atomic_bool stop;
	atomic_ulong rounds;
	unsigned long wrong;
	uint64_t longest_us;
};

/* What the client has all the while. */
struct tenant {
	struct actor actor;
	const char *device, *other;
	uint64_t memory, space;
	uint64_t spaces[2]; /* of the other device */
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *loop_run(void *data)
{
	struct loop *loop = data;
	uint64_t last = now_us();

	for (uint64_t seed = 100000; !loop->stop; seed++) {
		uint64_t now;

		actor_pattern(loop->remains.bytes, ACTOR_PAGE, seed);
		must(edu_to_device(&loop->remains.edu, SOURCE, ACTOR_BYTES), "the device reads");
		if (!remains_write(&loop->remains, seed))
			loop->wrong++;
		loop->rounds++;
		now = now_us();
		if (now - last > loop->longest_us)
			loop->longest_us = now - last;
		last = now;
	}
	return NULL;
}

/* Two rounds more that began after this: without a broker, too. */
static void expect_rounds(struct loop *loop, const char *when)
{
	unsigned long before = loop->rounds;
	uint64_t end = now_us() + 60000000;
	char name[128];

	while (loop->rounds < before + 3 && now_us() < end)
		usleep(10000);
	snprintf(name, sizeof(name), "%s: DMA goes on", when);
	report(loop->rounds >= before + 3, name, "the loop stands still");
}

/* One step of the client's work, which says when it was. */
static void step(const char *when, const char *what, int64_t got, int64_t want)
{
	char name[128];

	snprintf(name, sizeof(name), "%s: %s", when, what);
	expect(got, want, name);
}

/* A pattern through the other device, from page 4 to page 5: whether it arrives. */
static int64_t other_moves(struct actor *actor)
{
	static uint64_t seed = 300000;

	seed++;
	must(DO(actor, ACT_FILL, .a = 4, .b = seed), "fill");
	must(DO(actor, ACT_FILL, .a = 5, .b = 1), "fill");
	must(DO(actor, ACT_TO_DEVICE, .a = FIRST, .e = OTHER), "the other device reads");
	must(DO(actor, ACT_FROM_DEVICE, .a = SECOND, .e = OTHER), "the other device writes");
	return DO(actor, ACT_COMPARE, .a = 5, .b = seed);
}

/* Its buffer is full of a pattern; a write of it changes nothing of a page. */
static int64_t other_changes(struct actor *actor, uint64_t iova, uint64_t page)
{
	must(DO(actor, ACT_FILL, .a = page, .b = 2), "fill");
	must(DO(actor, ACT_FROM_DEVICE, .a = iova, .e = OTHER), "the other device writes");
	return DO(actor, ACT_COMPARE, .a = page, .b = 2);
}

/* In the space of the loop; what is mapped there stays as it is. */
static void work_beside_the_loop(struct tenant *t, const char *when)
{
	struct actor *ana = &t->actor;
	int64_t space;

	step(when, "Map",
	     DO(ana, ACT_MAP, .a = t->space, .b = 0x200000, .c = 2, .d = RW, .e = t->memory), 0);
	step(when, "Map where something is mapped",
	     DO(ana, ACT_MAP, .a = t->space, .b = SOURCE, .c = 2, .d = RW, .e = t->memory),
	     -EEXIST);
	step(when, "Unmap", DO(ana, ACT_UNMAP, .a = t->space, .b = 0x200000), 0);
	space = DO(ana, ACT_ALLOC, .text = t->device);
	step(when, "Alloc, an id that is new", space > (int64_t)t->spaces[1], true);
	step(when, "Free", DO(ana, ACT_FREE, .a = (uint64_t)space), 0);
	step(when, "a device that is claimed", DO(ana, ACT_CLAIM, .text = t->device), -EBUSY);
}

/* The other device comes, works, and goes. */
static void work_with_the_other(struct tenant *t, const char *when)
{
	struct actor *ana = &t->actor;
	const char *other = t->other;

	step(when, "Claim", claim_in_time(ana, other), 0);
	step(when, "Attach", DO(ana, ACT_ATTACH, .text = other, .a = t->spaces[0]), 0);
	step(when, "its fd", DO(ana, ACT_DEVICE_FD, .text = other, .e = OTHER), 0);
	step(when, "bytes move", other_moves(ana), 0);
	step(when, "an IOVA that is not mapped", other_changes(ana, NOWHERE, 6), 0);
	step(when, "Replace", DO(ana, ACT_REPLACE, .text = other, .a = t->spaces[1]), 0);
	/* Only in the space that it left. */
	step(when, "Unmap of the old space", DO(ana, ACT_UNMAP, .a = t->spaces[0], .b = SECOND), 0);
	step(when, "bytes move in the new one", other_moves(ana), 0);
	step(when, "Map of the old space",
	     DO(ana, ACT_MAP, .a = t->spaces[0], .b = SECOND, .c = 5, .d = RW, .e = t->memory), 0);
	step(when, "Unmap", DO(ana, ACT_UNMAP, .a = t->spaces[1], .b = SECOND), 0);
	step(when, "what is unmapped is not reached", other_changes(ana, SECOND, 5), 0);
	step(when, "Map again",
	     DO(ana, ACT_MAP, .a = t->spaces[1], .b = SECOND, .c = 5, .d = RW, .e = t->memory), 0);
	step(when, "Detach", DO(ana, ACT_DETACH, .text = other), 0);
	step(when, "a detached device reaches nothing", other_changes(ana, SECOND, 5), 0);
	must(DO(ana, ACT_CLOSE_FD, .e = OTHER), "close");
	step(when, "Release", DO(ana, ACT_RELEASE, .text = other), 0);
}

static void begin(struct tenant *t, const char *socket)
{
	struct actor *ana = &t->actor;

	actor_start(ana, UID_ANA);
	must(DO(ana, ACT_CONNECT, .text = socket, .a = true), "connect");
	set_up(ana, t->device, &t->memory, &t->space);
	/* For which it must be there. */
	must(DO(ana, ACT_CLAIM, .text = t->other), "claim");
	for (int i = 0; i < 2; i++) {
		t->spaces[i] = (uint64_t)must(DO(ana, ACT_ALLOC, .text = t->other), "alloc");
		for (uint64_t page = 4; page < 6; page++)
			must(DO(ana, ACT_MAP, .a = t->spaces[i],
				.b = FIRST + (page - 4) * ACTOR_PAGE, .c = page, .d = RW,
				.e = t->memory),
			     "map");
	}
	must(DO(ana, ACT_RELEASE, .text = t->other), "release");
}

static void stage(struct tenant *t, struct loop *loop, const char *name, const char *command)
{
	uint64_t began = now_us();

	/* What it prints and what this has are in one file. */
	fflush(stdout);
	expect(system(command), 0, name);
	expect_rounds(loop, name);
	if (!strncmp(name, "without", 7))
		return;
	work_beside_the_loop(t, name);
	if (!strncmp(name, "lost", 4))
		step(name, "Claim is refused", DO(&t->actor, ACT_CLAIM, .text = t->other),
		     -EHOSTDOWN);
	else
		work_with_the_other(t, name);
	printf("# %s: %llu ms\n", name, (unsigned long long)(now_us() - began) / 1000);
}

static void end(struct tenant *t, struct loop *loop)
{
	struct actor *ana = &t->actor;

	must(DO(ana, ACT_UNMAP, .a = t->space, .b = TARGET), "unmap");
	expect(remains_write(&loop->remains, 1), false,
	       "at the end: after Unmap nothing is reached");
	remains_drop(&loop->remains);
	must(DO(ana, ACT_CLOSE_FD), "close");
	expect(DO(ana, ACT_RELEASE, .text = t->device), 0, "at the end: Release");
	actor_end(ana, false);
}

int main(int argc, char **argv)
{
	static struct loop loop;
	struct tenant tenant;
	pthread_t thread;

	if (argc < 6 || argc % 2) {
		fprintf(stderr, "usage: restart TENANTS EDU OTHER {NAME COMMAND}...\n");
		return 2;
	}
	tenant = (struct tenant){.device = argv[2], .other = argv[3]};
	begin(&tenant, argv[1]);
	remains_take(&loop.remains, &tenant.actor);
	if (pthread_create(&thread, NULL, loop_run, &loop))
		return 2;
	stage(&tenant, &loop, "before", "true");
	for (int i = 4; i < argc; i += 2)
		stage(&tenant, &loop, argv[i], argv[i + 1]);
	loop.stop = true;
	pthread_join(thread, NULL);
	printf("# %lu rounds, the longest took %llu ms\n", (unsigned long)loop.rounds,
	       (unsigned long long)loop.longest_us / 1000);
	expect((int64_t)loop.wrong, 0, "no byte was wrong, no DMA refused");
	report(loop.longest_us < PAUSE_MAX_US, "no round was held up", "see above");
	end(&tenant, &loop);
	return report_failed;
}
