/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_MOCK_DOOR_H
#define IOASID_TEST_MOCK_DOOR_H

/*
 * A back door for the RPC suites: what hardware does by itself and a mock device on request, and
 * what the kernel knows of it.  See door.c.
 */

struct iommufd_dev;

/* A thread that answers at this path of the file system, until the process ends.  0 or -errno. */
int mock_door_open(const char *path);

/* The device's record can be asked for, from the first of these to the second. */
void mock_door_add(struct iommufd_dev *dev);
void mock_door_remove(struct iommufd_dev *dev);

#endif
