/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_MOUNT_H
#define IOASID_OCI_MOUNT_H

/*
 * What the container sees of the host: ROOTFS/run/ioasid is the folder given, read-only, and
 * "broker" in it the folder of the tenant's socket.  Folders and no files, because a broker
 * that is started again makes a new socket, and a file that is mounted stays the old one.
 *
 * The root file system is the tenant's and may be changed while this runs: every name in it
 * is resolved inside of it (openat2, RESOLVE_IN_ROOT), and mounted on is what was opened.
 */

#define MOUNT_BROKER "broker"

/* Again for the same container: done already, nothing happens. */
int mount_into(int mount_ns, const char *rootfs, int folder, const char *socket_folder);

#endif
