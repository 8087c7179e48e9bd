/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin wrappers round the raw calls, for guest programs that use no ioasid code at all.  Each
 * returns 0 or -errno; none prints, retries or keeps state.
 */
#ifndef TESTS_GUEST_RAW_H
#define TESTS_GUEST_RAW_H

#include <stddef.h>
#include <stdint.h>

/*
 * Opens the character device of the function at PCI address bdf ("0000:00:03.0"), which
 * vfio-pci must have: a descriptor, or -errno.  Needs root; all that follows does not.
 */
int raw_cdev_open(const char *bdf);

/* /dev/iommu: a descriptor, or -errno. */
int raw_iommu_open(void);

/* Gives up root for good: uid and gid, no groups, no capabilities, no way back. */
int raw_drop_to(unsigned int uid);

int raw_bind(int cdev, int iommufd, uint32_t *dev_id);
int raw_attach(int cdev, uint32_t pt_id);
int raw_detach(int cdev);
int raw_ioas_alloc(int iommufd, uint32_t *ioas_id);
int raw_destroy(int iommufd, uint32_t id);

/* Maps length bytes of file fd from offset start at exactly iova. */
int raw_map_file(int iommufd, uint32_t ioas_id, int fd, uint64_t start, uint64_t length,
		 uint64_t iova, int writable);
int raw_unmap(int iommufd, uint32_t ioas_id, uint64_t iova, uint64_t length);

#endif
