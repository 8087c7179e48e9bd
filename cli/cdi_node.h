/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_CDI_NODE_H
#define IOASID_CLI_CDI_NODE_H

/*
 * VFIO's character devices as this host has them now: which one a device has, and when that
 * may have changed.
 */

#include <stdbool.h>

/*
 * "/dev/vfio/devices/vfio3", by which container engines find the node that the device has; NULL:
 * none.  free().  sysfs and dev are where "/sys" and "/dev" are looked up.  It is named only if
 * the node there is the very device that sysfs says: the kernel takes a node away before the
 * entry in sysfs, and gives its number to the next device.
 */
char *cdi_node_find(const char *sysfs, const char *dev, const char *device);

/*
 * A watch of the folder of nodes, which need not be there yet.  The fd is readable when something
 * may have changed; -1: there is no inotify to be had, and nothing is ever said.
 */
struct cdi_node_watch {
	const char *dev;
	int fd;
};

/* dev is borrowed. */
void cdi_node_watch_init(struct cdi_node_watch *watch, const char *dev);
void cdi_node_watch_deinit(struct cdi_node_watch *watch);
/* Before nodes are looked at: watches what is there by now. */
void cdi_node_watch_renew(struct cdi_node_watch *watch);
/* Takes what was said since the last time.  Whether it was about VFIO. */
bool cdi_node_watch_drain(struct cdi_node_watch *watch);

#endif
