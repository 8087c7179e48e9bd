/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_SYSFS_H
#define IOASID_IOMMUFD_SYSFS_H

/* Reading sysfs below a root: what an unprivileged process may see of the host. */

#include <stddef.h>
#include <stdint.h>

#define SYSFS_PATH_MAX 512

/* One printf format a path, below root.  0 or -errno. */
int sysfs_read(const char *root, char *ret_text, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* A number as the kernel writes it: base 16 with or without "0x", or base 10, signed. */
int sysfs_read_number(const char *root, unsigned base, int64_t *ret_number, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The last part of what a symbolic link points to; -ENOENT: there is no such link. */
int sysfs_read_link(const char *root, char *ret_name, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The names in a folder, in the order of their bytes. */
int sysfs_list(const char *root, const char *path, char ***ret_names, size_t *ret_n);
void sysfs_list_free(char **names, size_t n);

#endif
