/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests with actors have in common: an actor whose device reaches its first two pages,
 * moves that must arrive or must not, and what is left of an actor that is gone.
 *
 * The names of checks are of what must hold; what a test only stands on ends it by must().
 */
#ifndef TESTS_GUEST_SCENE_H
#define TESTS_GUEST_SCENE_H

#include "director.h"

#define RW (IOASID_READ | IOASID_WRITE)

/* IOVAs of an actor's first two pages. */
#define SOURCE 0x100000u
#define TARGET 0x101000u

/* Claims, maps pages 0 and 1 at SOURCE and TARGET, attaches, opens the device. */
void set_up(struct actor *actor, const char *device, uint64_t *ret_memory, uint64_t *ret_space);
void mark(struct actor *actor, uint64_t page, uint64_t seed);
/*
 * The device takes a fresh pattern from page 0, which is mapped at SOURCE, into its buffer.
 * Returns the pattern's seed.
 */
uint64_t load(struct actor *actor);
/* Bytes move both ways: the device's view of pages 0 and 1 is the actor's. */
void moves(struct actor *actor, const char *name);
/* The device's write to iova changes nothing on that page of that actor. */
void blocked_write(struct actor *actor, uint64_t iova, struct actor *victim, uint64_t page,
		   const char *name);
/* The fds of an actor that is gone, in the director's hands. */
struct remains {
	int memfd, cdev;
	uint8_t *bytes;
	struct edu edu;
};

void remains_take(struct remains *remains, struct actor *actor);
void remains_drop(struct remains *remains);
/* Whether a write of the device to TARGET arrives; its buffer was loaded with that pattern. */
bool remains_write(struct remains *remains, uint64_t pattern);

#endif
