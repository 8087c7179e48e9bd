/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_ALLOC_FAULT_H
#define IOASID_TESTS_ALLOC_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Allocations of the code under test, made to fail one at a time.  The linker's --wrap sends
 * the allocation calls of every object in this program here (CMakeLists.txt has the list), so
 * what shared libraries allocate for themselves is not touched, and it works under ASan.
 */

/* From now on the nth call (from 1) fails; 0: none does, but they are counted. */
void alloc_fault_arm(uint64_t nth);
/* Back to normal.  Returns how many calls there were while armed. */
uint64_t alloc_fault_disarm(void);
/* Did the last armed stretch reach its nth call? */
bool alloc_fault_hit(void);

/* Blocks that were allocated through here and not freed; and mappings by mmap(). */
int64_t alloc_fault_live(void);

#endif
