/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_FILE_H
#define KUBERNETES_FILE_H

/* Small files, whole. */

#include <stddef.h>
#include <sys/types.h>

/* -errno; -EFBIG: longer than max.  ret_text ends with a NUL that ret_length does not count. */
int file_read(int dir_fd, const char *name, size_t max, char **ret_text, size_t *ret_length);
/* The file is the old one or the new one, whatever happens meanwhile. */
int file_replace(int dir_fd, const char *name, mode_t mode, const char *text, size_t length);

#endif
