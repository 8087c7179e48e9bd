/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_NODES_H
#define IOASID_OCI_NODES_H

/*
 * The device nodes that config.json of the bundle lets a container have.  VFIO's are named by a
 * number, which goes to the next device when the last one has left vfio-pci; a CDI file that is
 * older than that would let the container have another tenant's device.
 */

struct ask;
struct bundle;

/* Each node of VFIO's is that of a device that is asked for.  sysfs: "/sys" */
int nodes_check(const struct bundle *bundle, const struct ask *ask, const char *sysfs);

#endif
