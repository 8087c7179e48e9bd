/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_SMMUV3_TABLES_H
#define IOASID_IOMMUFD_SMMUV3_TABLES_H

/* Kind USER behind an SMMUv3; see smmuv3_tables.c.  Called by the files of the other kinds. */

#include "iommufd/internal.h"

/*
 * Two halves in a parent's addresses for the shim's own context descriptors, right behind where
 * Linux puts the MSI doorbell; reserved behind every SMMUv3 that nests.
 */
#define SMMUV3_WINDOW	   UINT64_C(0x8100000)
#define SMMUV3_PAGE	   UINT64_C(0x10000)
#define SMMUV3_PARENT_BITS 28
#define SMMUV3_SLOTS	   (SMMUV3_PAGE / SMMUV3_CD_BYTES)

/* The pt is new, with its format and width. */
int iommufd_smmuv3_create(struct iommufd_pt *pt, const struct shim_pt_spec *spec, char *ret_reason);
void iommufd_smmuv3_free(struct iommufd_pt *pt);
void iommufd_smmuv3_page_free(struct iommufd_pt *parent);

/* Whether the unit can use what is bound. */
int iommufd_smmuv3_suits(const struct iommufd_pt *pt, const struct iommufd_slot *slot,
			 char *ret_reason);
int iommufd_smmuv3_attach(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
			  struct iommufd_hwpt **ret_hwpt);
/* A hardware table of what is bound, for a device that has its vDEVICE. */
int iommufd_smmuv3_hwpt(struct iommufd_dev *dev, struct iommufd_pt *pt, uint32_t *ret_id);
/* The last device behind the unit has left the table. */
void iommufd_smmuv3_flush(struct iommufd_pt *pt, const struct iommufd_unit *unit);

int iommufd_smmuv3_bind_table(struct iommufd_pt *pt, const struct shim_table *table,
			      char *ret_reason);

/* smmuv3_commands.c */
int iommufd_smmuv3_invalidate_native(struct iommufd_pt *pt, enum shim_native type,
				     const void *entries, size_t n, size_t *ret_done);
int iommufd_smmuv3_invalidate(struct iommufd_pt *pt, const struct shim_invalidate *entries,
			      size_t n, size_t *ret_done);

/* smmuv3_probe.c: learns of every SMMUv3 what sysfs does not tell.  -ENOMEM. */
int iommufd_smmuv3_probe(struct iommufd_shim *shim);
/* The same by a device that is bound; nothing is done for a unit that is known. */
int iommufd_smmuv3_learn(struct iommufd_dev *dev);

/* Moves every device to tables made anew; what an earlier broker made is then in no use. */
int iommufd_smmuv3_restored(struct iommufd_ctx *ctx);
/* Unmaps the half of the window that is not in use. */
void iommufd_smmuv3_page_settle(struct iommufd_pt *parent);

#endif
