/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_VIOMMU_H
#define IOASID_IOMMUFD_VIOMMU_H

/*
 * What a table of kind KERNEL is to the tables nested on it, behind one SMMUv3: the hardware's
 * parent table, the kernel's vIOMMU on it with its queue of events, and the vDEVICE of each
 * device.  Made when the first device is attached to a child; ends with the parent.
 *
 * All calls belong to the thread of the context.
 */

#include "iommufd/internal.h"

/* Events that wait; then they are lost, and counted. */
#define IOMMUFD_EVENTS_MAX 256u

struct iommufd_view {
	struct iommufd_view *next;
	const struct iommufd_unit *unit;
	struct iommufd_hwpt *parent; /* one of its n_attached is the view */
	uint32_t viommu;	     /* 0: none, of both */
	uint32_t queue;
	int events;	   /* the queue's descriptor; -1: none */
	uint32_t expected; /* the number of the next event */
	uint64_t lost;	   /* not told yet */
};

struct iommufd_view *iommufd_view_find(const struct iommufd_pt *parent,
				       const struct iommufd_unit *unit);
/* Finds or makes it; the device is behind the unit. */
int iommufd_view_get(struct iommufd_dev *dev, struct iommufd_pt *parent,
		     struct iommufd_view **ret_view);
/* Ends the kernel's objects of all of them; false: one is in use. */
bool iommufd_views_try_end(struct iommufd_pt *parent);
/* Frees ours only. */
void iommufd_views_free(struct iommufd_pt *parent);

/* The number by which commands and events name the device: its PCI segment and requester id. */
uint32_t iommufd_vdevice_number(const struct iommufd_dev *dev);
/* Makes the device one of the view's; it may have been another's. */
int iommufd_vdevice_move(struct iommufd_dev *dev, struct iommufd_view *view);
void iommufd_vdevice_end(struct iommufd_dev *dev);

/* n commands of 16 bytes; *ret_done is always set. */
int iommufd_view_commands(struct iommufd_ctx *ctx, const struct iommufd_view *view,
			  const void *commands, size_t n, size_t *ret_done);

#endif
