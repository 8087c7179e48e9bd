/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_CLOCK_H
#define IOASID_TRANSPORT_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_us(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* CLOCK_MONOTONIC, microseconds. */
static inline uint64_t clock_us(void)
{
	return clock_read_us(CLOCK_MONOTONIC);
}

#endif
