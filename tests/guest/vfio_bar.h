/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of a device, by the descriptor of its VFIO device: what any program needs before
 * it can drive one without privilege.
 */
#ifndef TESTS_GUEST_VFIO_BAR_H
#define TESTS_GUEST_VFIO_BAR_H

#include <stddef.h>

/*
 * Enables memory accesses and DMA, and maps BAR 0, which must have at least that many bytes.
 * 0 or -errno; -ENXIO: it is smaller, or cannot be mapped.  munmap() is the caller's.
 */
int vfio_bar_map(int cdev, size_t least, volatile void **ret_bar, size_t *ret_size);

#endif
