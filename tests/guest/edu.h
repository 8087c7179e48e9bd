/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver in user space for QEMU's "edu" device, the guest tests' source of true DMA: it
 * moves bytes between an I/O virtual address and a buffer of its own.
 *
 * The buffer cannot be read through the BAR; only registers can.  So there are two moves, and
 * bytes are compared by moving them through the device from one place to another:
 *
 *	edu_open(cdev, &edu);                     after BIND_IOMMUFD, see below
 *	edu_to_device(&edu, iova_of_source, n);   memory -> buffer (a DMA read)
 *	edu_from_device(&edu, iova_of_target, n); buffer -> memory (a DMA write)
 *
 * What to know of the device:
 *   - A move takes 100 ms of the guest's clock, whatever its length, and always "completes":
 *     it does not tell whether the IOMMU let it through.  Only memory tells.
 *   - A DMA read that the IOMMU refused sets the buffer to zero.  Before a test that a *write*
 *     is refused, fill the buffer with a pattern from mapped memory: a refused write that left
 *     zeros over zeros proves nothing.
 *   - Give QEMU dma_mask=0xffffffffffff (lib/machine.sh does), or addresses above 256 MiB are
 *     cut without a word.
 *
 * A process needs the descriptor of the VFIO character device and nothing else, no root and
 * no capability.  The kernel serves no region before the device is bound to an iommufd; it
 * need not be attached.  An edu is used by one thread at a time.
 */
#ifndef TESTS_GUEST_EDU_H
#define TESTS_GUEST_EDU_H

#include <stddef.h>
#include <stdint.h>

/* The largest move.  The buffer has 4 KiB, and QEMU 7.2 ends itself over a move to its end. */
#define EDU_MAX 2048u

/* Refused writes are split by QEMU in 4-byte accesses, each a fault: use this in fault tests. */
#define EDU_FAULT_MAX 64u

struct edu {
	volatile void *bar;
	size_t bar_size;
};

/*
 * Maps BAR 0 of cdev and turns memory decoding and bus mastering on.  Keeps no copy of cdev,
 * but the mapping holds the device open until edu_close().  0, or -errno; -ENXIO: not an edu.
 */
int edu_open(int cdev, struct edu *edu);
void edu_close(struct edu *edu);

/*
 * len bytes at iova -> the device's buffer; the device's buffer -> len bytes at iova.  Return
 * once the device is done: 0; -EINVAL: len is 0 or over EDU_MAX; -ETIMEDOUT: after ten seconds.
 */
int edu_to_device(struct edu *edu, uint64_t iova, size_t len);
int edu_from_device(struct edu *edu, uint64_t iova, size_t len);

#endif
