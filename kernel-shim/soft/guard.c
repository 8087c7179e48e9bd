/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See guard.h.  The signal mask is not saved with the jump buffer, as that costs a system
 * call a copy; instead the handler, which is rare, puts back the mask that the fault
 * interrupted before it jumps.  Only the thread that faults gets these signals, so
 * thread-local state is all there is.
 */

#include "soft/guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

struct guard {
	sigjmp_buf out;
	/* The two ranges whose loss is expected; length 0: no copy is running. */
	uintptr_t to, from;
	volatile size_t length;
};

static __thread struct guard guard;
static struct sigaction before_bus, before_segv;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int init_error;

static void pass_on(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *before = signal == SIGBUS ? &before_bus : &before_segv;

	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(signal, info, context);
		return;
	}
	if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
		before->sa_handler(signal);
		return;
	}
	/* A fault cannot be ignored: with the default back, the same access ends us. */
	sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
	/* Sent, not raised by an access: it would not come again by itself. */
	if (info->si_code <= 0)
		raise(signal);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	size_t length = guard.length;

	/* si_code > 0: by the kernel, for an access, not sent by somebody. */
	if (length && info->si_code > 0 && (at - guard.to < length || at - guard.from < length)) {
		guard.length = 0;
		pthread_sigmask(SIG_SETMASK, &((const ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(guard.out, 1);
	}
	pass_on(signal, info, context);
}

static void install(void)
{
	struct sigaction action = {.sa_sigaction = on_fault};

	action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &before_bus)) {
		init_error = -errno;
		return;
	}
	if (sigaction(SIGSEGV, &action, &before_segv)) {
		init_error = -errno;
		sigaction(SIGBUS, &before_bus, NULL);
	}
}

int soft_guard_init(void)
{
	pthread_once(&once, install);
	return init_error;
}

#if defined(__SANITIZE_THREAD__)
#define GUARD_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GUARD_TSAN 1
#endif
#endif

/*
 * What devices write races by nature with what tenants and other devices read, as it does
 * in hardware.  The thread sanitizer must not see this as a race of ours.
 */
static inline void copy_bytes(void *to, const void *from, size_t length)
{
#if defined(GUARD_TSAN) && defined(__x86_64__)
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
#else
	memcpy(to, from, length);
#endif
}

/* A fault within the sanitizer's own atomic operations would leave its locks taken. */
static inline uint64_t load_word(const uint64_t *from)
{
#if defined(GUARD_TSAN) && defined(__x86_64__)
	uint64_t value;

	__asm__ volatile("movq %1, %0" : "=r"(value) : "m"(*from) : "memory");
	return value;
#else
	return __atomic_load_n(from, __ATOMIC_ACQUIRE);
#endif
}

static inline bool swap_word(uint64_t *at, uint64_t *expected, uint64_t wanted)
{
#if defined(GUARD_TSAN) && defined(__x86_64__)
	uint64_t was = *expected;

	__asm__ volatile("lock cmpxchgq %2, %1"
			 : "+a"(*expected), "+m"(*at)
			 : "r"(wanted)
			 : "memory");
	return *expected == was;
#else
	return __atomic_compare_exchange_n(at, expected, wanted, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
#endif
}

bool soft_guard_copy(void *to, const void *from, size_t length)
{
	struct guard *g = &guard;

	if (!length)
		return true;
	if (sigsetjmp(g->out, 0))
		return false;
	g->to = (uintptr_t)to;
	g->from = (uintptr_t)from;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	g->length = length;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	copy_bytes(to, from, length);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	g->length = 0;
	return true;
}

/* One word, for the handler to recognize. */
static void arm(struct guard *g, const uint64_t *at)
{
	g->to = g->from = (uintptr_t)at;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	g->length = sizeof(*at);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void disarm(struct guard *g)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	g->length = 0;
}

bool soft_guard_load(const uint64_t *from, uint64_t *ret_value)
{
	struct guard *g = &guard;

	if (sigsetjmp(g->out, 0))
		return false;
	arm(g, from);
	*ret_value = load_word(from);
	disarm(g);
	return true;
}

bool soft_guard_swap(uint64_t *at, uint64_t *expected, uint64_t wanted, bool *ret_swapped)
{
	struct guard *g = &guard;
	uint64_t was = *expected;

	if (sigsetjmp(g->out, 0))
		return false;
	arm(g, at);
	*ret_swapped = swap_word(at, &was, wanted);
	disarm(g);
	*expected = was;
	return true;
}
