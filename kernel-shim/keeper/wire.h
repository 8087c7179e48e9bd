/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_WIRE_H
#define IOASID_KEEPER_WIRE_H

/* Datagrams with file descriptors over a unix SOCK_SEQPACKET; knows nothing of their content. */

#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* What one message of the kernel carries at most (SCM_MAX_FD): none is ever cut off. */
#define WIRE_FDS_MAX 253

/* fds stay the caller's.  -errno; -EPIPE: the peer has gone. */
int wire_send(int sock, const void *bytes, size_t size, const int *fds, size_t n_fds);

/*
 * Size of the datagram; 0: the peer has gone; -EPROTO: it was larger than size, or fds were
 * lost (those that came are closed).  The fds are the caller's, close-on-exec.
 */
ssize_t wire_receive(int sock, void *ret_bytes, size_t size, int ret_fds[static WIRE_FDS_MAX],
		     size_t *ret_n_fds);

void wire_close(int *fds, size_t n);

/* __attribute__((cleanup(close_fd))) int fd = -1; */
static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

#endif
