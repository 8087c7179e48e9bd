/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets of a QEMU that may still be starting.
 */
#ifndef TESTS_GUEST_QEMU_SOCKET_H
#define TESTS_GUEST_QEMU_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

/* Tries for a minute: a descriptor or -errno. */
int qemu_socket_connect(const char *path);
/* All of it, and fd with its first byte unless it is -1. */
bool qemu_socket_send(int socket, const char *bytes, size_t n, int fd);

#endif
