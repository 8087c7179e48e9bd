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

/* Nested translation behind an SMMUv3. */
int raw_hw_info_smmuv3(int iommufd, uint32_t dev_id, uint32_t *type, uint32_t idr[6]);
int raw_hwpt_parent(int iommufd, uint32_t dev_id, uint32_t ioas_id, uint32_t *hwpt_id);
int raw_hwpt_nested(int iommufd, uint32_t dev_id, uint32_t viommu_id, const uint64_t ste[2],
		    uint32_t *hwpt_id);
int raw_viommu_alloc(int iommufd, uint32_t dev_id, uint32_t parent, uint32_t *viommu_id);
int raw_vdevice_alloc(int iommufd, uint32_t viommu_id, uint32_t dev_id, uint64_t virt_id,
		      uint32_t *vdevice_id);
int raw_veventq_alloc(int iommufd, uint32_t viommu_id, uint32_t depth, uint32_t *veventq_id,
		      int *fd);
/* commands: 16 bytes each; *n: in, how many; out, how many were done. */
int raw_viommu_commands(int iommufd, uint32_t viommu_id, const void *commands, uint32_t *n);

#endif
