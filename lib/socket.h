/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_SOCKET_H
#define LIBIOASID_SOCKET_H

/* Connecting to the broker's socket, and time that runs out. */

#include "ioasid.h"

#define SOCKET_TIMEOUT_MS 5000

/* CLOCK_MONOTONIC, microseconds. */
uint64_t time_now_us(void);
/* timeout_ms from now; UINT64_MAX for IOASID_NO_TIMEOUT. */
uint64_t time_deadline_us(uint32_t timeout_ms);
/* For poll(): milliseconds until the deadline, rounded up; -1: for ever, 0: over. */
int time_left_ms(uint64_t deadline_us);

/* The path that a NULL stands for; never NULL. */
const char *socket_path_or_default(const char *path);
/*
 * A connected stream socket, non-blocking and close-on-exec.  timeout_ms 0: 5000.  Fails
 * with origin CONNECT and connect()'s errno.
 */
int socket_connect(const char *path, uint32_t timeout_ms, int *ret_fd,
		   struct ioasid_error **ret_error);

#endif
