/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_FAILNTH_ROOM_FAULT_H
#define IOASID_TESTS_FAILNTH_ROOM_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* The nth request for room from now on fails; 0: none, they are only counted. */
void room_fault_arm(uint64_t nth);
/* How many there were. */
uint64_t room_fault_disarm(bool *ret_fired);

#endif
