/* SPDX-License-Identifier: Apache-2.0 */
/* See scene.h.  No state but the number of the last pattern, so that none comes twice. */
#include "scene.h"

#include <sys/mman.h>
#include <unistd.h>

uint64_t load(struct actor *actor)
{
	static uint64_t seed = 7;

	seed++;
	must(DO(actor, ACT_FILL, .a = 0, .b = seed), "fill");
	must(DO(actor, ACT_TO_DEVICE, .a = SOURCE), "the device reads");
	return seed;
}

void mark(struct actor *actor, uint64_t page, uint64_t seed)
{
	must(DO(actor, ACT_FILL, .a = page, .b = seed), "mark");
}

void blocked_write(struct actor *actor, uint64_t iova, struct actor *victim, uint64_t page,
		   const char *name)
{
	mark(victim, page, 5000 + page);
	must(DO(actor, ACT_FROM_DEVICE, .a = iova), "the device writes");
	expect(DO(victim, ACT_COMPARE, .a = page, .b = 5000 + page), 0, name);
}

void set_up(struct actor *actor, const char *device, uint64_t *ret_memory, uint64_t *ret_space)
{
	must(DO(actor, ACT_CLAIM, .text = device), "claim");
	*ret_memory = (uint64_t)must(DO(actor, ACT_MEMORY, .a = ACTOR_MEMORY), "register");
	*ret_space = (uint64_t)must(DO(actor, ACT_ALLOC, .text = device), "alloc");
	for (uint64_t page = 0; page < 2; page++)
		must(DO(actor, ACT_MAP, .a = *ret_space, .b = SOURCE + page * ACTOR_PAGE, .c = page,
			.d = RW, .e = *ret_memory),
		     "map");
	must(DO(actor, ACT_ATTACH, .text = device, .a = *ret_space), "attach");
	must(DO(actor, ACT_DEVICE_FD, .text = device), "device fd");
}

void moves(struct actor *actor, const char *name)
{
	uint64_t is;

	mark(actor, 1, 1);
	is = load(actor);
	must(DO(actor, ACT_FROM_DEVICE, .a = TARGET), "the device writes");
	expect(DO(actor, ACT_COMPARE, .a = 1, .b = is), 0, name);
}

void remains_take(struct remains *remains, struct actor *actor)
{
	actor_take_fds(actor, &remains->memfd, &remains->cdev);
	remains->bytes = mmap(NULL, (size_t)ACTOR_PAGES * ACTOR_PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED, remains->memfd, 0);
	if (remains->bytes == MAP_FAILED || edu_open(remains->cdev, &remains->edu)) {
		report(0, "what the actor had", "cannot be used");
		exit(1);
	}
}

void remains_drop(struct remains *remains)
{
	edu_close(&remains->edu);
	close(remains->cdev);
	munmap(remains->bytes, (size_t)ACTOR_PAGES * ACTOR_PAGE);
	close(remains->memfd);
}

bool remains_write(struct remains *remains, uint64_t pattern)
{
	uint8_t expected[ACTOR_BYTES];

	actor_pattern(remains->bytes + ACTOR_PAGE, ACTOR_PAGE, 5001);
	must(edu_from_device(&remains->edu, TARGET, ACTOR_BYTES), "the device writes");
	actor_pattern(expected, sizeof(expected), pattern);
	return !memcmp(remains->bytes + ACTOR_PAGE, expected, sizeof(expected));
}
