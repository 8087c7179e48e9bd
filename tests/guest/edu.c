/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The edu device by its registers (QEMU, docs/specs/edu).  See edu.h.
 *
 * Owns the mapping of BAR 0 and nothing else.  Never raises an interrupt: completion is polled,
 * so that a test of DMA does not depend on interrupt remapping.
 *
 * Invariant: no command is written while one runs.  The device would take it for a register
 * write to be ignored, and the test would look at the result of another move.
 */
#include "edu.h"

#include "vfio_bar.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define EDU_ID		0x00
#define EDU_DMA_SOURCE	0x80
#define EDU_DMA_TARGET	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND 0x98

#define EDU_COMMAND_RUN	      1u
#define EDU_COMMAND_TO_MEMORY 2u
#define EDU_BUFFER	      0x40000u
#define EDU_LIMIT_MS	      10000

static uint64_t edu_read64(struct edu *edu, size_t offset)
{
	return *(volatile uint64_t *)((volatile char *)edu->bar + offset);
}

/* The registers from 0x80 on take 64 bits in one access; two of 32 would set the low half twice. */
static void edu_write64(struct edu *edu, size_t offset, uint64_t value)
{
	*(volatile uint64_t *)((volatile char *)edu->bar + offset) = value;
}

int edu_open(int cdev, struct edu *edu)
{
	uint32_t id;
	int ret;

	memset(edu, 0, sizeof(*edu));
	ret = vfio_bar_map(cdev, 0x1000, &edu->bar, &edu->bar_size);
	if (ret)
		return ret;
	/* 0xRRrr00ed, versions major and minor. */
	id = *(volatile uint32_t *)((volatile char *)edu->bar + EDU_ID);
	if ((id & 0xffff) != 0x00ed) {
		edu_close(edu);
		return -ENXIO;
	}
	return 0;
}

void edu_close(struct edu *edu)
{
	if (edu->bar)
		munmap((void *)edu->bar, edu->bar_size);
	memset(edu, 0, sizeof(*edu));
}

static int64_t edu_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int edu_wait(struct edu *edu)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	int64_t end = edu_now_ms() + EDU_LIMIT_MS;

	while (edu_read64(edu, EDU_DMA_COMMAND) & EDU_COMMAND_RUN) {
		if (edu_now_ms() > end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int edu_move(struct edu *edu, uint64_t source, uint64_t target, size_t len, uint64_t command)
{
	int ret;

	if (!len || len > EDU_MAX)
		return -EINVAL;
	ret = edu_wait(edu);
	if (ret)
		return ret;
	edu_write64(edu, EDU_DMA_SOURCE, source);
	edu_write64(edu, EDU_DMA_TARGET, target);
	edu_write64(edu, EDU_DMA_COUNT, len);
	edu_write64(edu, EDU_DMA_COMMAND, command | EDU_COMMAND_RUN);
	return edu_wait(edu);
}

int edu_to_device(struct edu *edu, uint64_t iova, size_t len)
{
	return edu_move(edu, iova, EDU_BUFFER, len, 0);
}

int edu_from_device(struct edu *edu, uint64_t iova, size_t len)
{
	return edu_move(edu, EDU_BUFFER, iova, len, EDU_COMMAND_TO_MEMORY);
}
