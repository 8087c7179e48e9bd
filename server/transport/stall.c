/* SPDX-License-Identifier: Apache-2.0 */
/* A timer on a thread's processor time against the rounds of its loop; see stall.h. */
#include "stall.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

int stall_watch(struct stall *stall)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	const struct timespec tick = {.tv_nsec = STALL_TICK_MS * 1000000L};
	const struct itimerspec every = {.it_interval = tick, .it_value = tick};
	clockid_t clock;
	int r = pthread_getcpuclockid(pthread_self(), &clock);

	if (r)
		return -r;
	if (timer_create(clock, &event, &stall->timer) < 0)
		return -errno;
	stall->has_timer = true;
	if (timer_settime(stall->timer, 0, &every, NULL) == 0)
		return 0;
	r = -errno;
	stall_unwatch(stall);
	return r;
}

void stall_unwatch(struct stall *stall)
{
	if (stall->has_timer)
		timer_delete(stall->timer);
	stall->has_timer = false;
}

bool stall_ticked(struct stall *stall)
{
	uint64_t rounds = atomic_load_explicit(&stall->rounds, memory_order_relaxed);

	if (rounds != stall->seen)
		stall->n_ticks = 0;
	stall->seen = rounds;
	return ++stall->n_ticks > STALL_TICKS;
}

bool stall_lasts(const struct stall *stall)
{
	return atomic_load_explicit(&stall->rounds, memory_order_relaxed) == stall->seen;
}
