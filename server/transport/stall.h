/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_STALL_H
#define IOASID_TRANSPORT_STALL_H

/*
 * Notices that a loop does not come round although its thread works.
 *
 * What for: one poll of gRPC reads a connection until nothing is left to read.  A peer that
 * sends cheap frames faster than gRPC parses them (HEADERS and RST_STREAM in turn, which
 * HTTP/2's limit of streams does not count) keeps that poll going for ever, and every other
 * client waits.  gRPC 1.51 has no bound for it, so somebody else has to look.
 *
 * How: a timer on the thread's own processor time sends a signal for every STALL_TICK_MS that
 * the thread has worked; an idle thread costs nothing.  STALL_TICKS signals without a round
 * between them are a stall.  Whose fault it is, is for the caller to find out.
 *
 * How long: messages are bounded by HTTP/2's windows, and all that one connection may send
 * before the thread has to act is read within some 300 ms.  So STALL_TICKS is more than that.
 *
 * Threads: watch, unwatch and round on the thread that is watched; ticked and lasts on one
 * other.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define STALL_TICK_MS 50
#define STALL_TICKS   12

struct stall {
	timer_t timer;
	bool has_timer;
	_Atomic uint64_t rounds;
	/* The other thread's. */
	uint64_t seen;
	unsigned n_ticks; /* since that round began */
};

/* SIGRTMIN is blocked everywhere, and one thread takes it.  -errno. */
int stall_watch(struct stall *stall);
void stall_unwatch(struct stall *stall);
/* The loop has come round. */
static inline void stall_round(struct stall *stall)
{
	atomic_fetch_add_explicit(&stall->rounds, 1, memory_order_relaxed);
}
/* The signal has come; true: a stall. */
bool stall_ticked(struct stall *stall);
/* After true: the same round goes on. */
bool stall_lasts(const struct stall *stall);

#endif
