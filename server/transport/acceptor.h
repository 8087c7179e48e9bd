/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_ACCEPTOR_H
#define IOASID_TRANSPORT_ACCEPTOR_H

/*
 * The thread at the door.  It accepts, reads the kernel's word on who is there, waits a
 * limited time for the first bytes, and hands over what turned out to be a gRPC connection
 * or an fd exchange.  It also is the eyes of the state thread: signals, ended connections,
 * pidfds (watches.h).
 *
 * What it never does: parse HTTP/2, touch the broker, wait for a peer.
 *
 * Invariants.  A guest (accepted, not yet judged) lives in a fixed table: no peer can make
 * the acceptor allocate.  Every guest has a deadline.  When the table is full a
 * guest of a principal that connects too fast goes, else the oldest: who speaks at once is
 * never the oldest.  Out of fds, a reserve is spent to
 * refuse the caller, and listening pauses.
 *
 * Threads: its own; acceptor_new/free and the requests are for the state thread.
 */

#include "fd_protocol.h"
#include "list.h"
#include "listener.h"
#include "mailbox.h"
#include "principal.h"
#include "watches.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>

struct acceptor;

/* A connection that begins with "PRI ": HTTP/2.  The receiver owns it and its fd. */
struct arrival {
	struct mail mail;
	struct list link; /* the receiver's */
	void *userdata;
	int fd;
	const struct listener *listener;
	struct ucred peer;
	struct principal *principal; /* open; principal_leave() is the receiver's */
};

/* A complete and well-formed fd request.  The receiver owns it and its fds. */
struct exchange {
	struct mail mail;
	void *userdata;
	int fd;
	int passed_fd; /* GIVE */
	const struct listener *listener;
	struct ucred peer;
	struct principal *principal; /* pending; principal_leave_pending() is the receiver's */
	struct fd_request request;
};

struct acceptor_config {
	const struct listeners *listeners; /* borrowed; outlives the acceptor */
	struct principal_table *principals;
	struct mailbox *mailbox;
	unsigned guests; /* capacity of the table */
	unsigned handshake_ms;
	/* deliver functions of the mails; userdata is set in each. */
	void (*arrived)(struct mail *mail);
	void (*exchanged)(struct mail *mail);
	void *userdata;
	/* On the state thread, with the signal's number; see signals. */
	void (*signalled)(void *userdata, int signal);
	/* SIGRTMIN, which is not handed on: the acceptor's own thread, so any time. */
	void (*ticked)(void *userdata);
	/* Blocked in every thread by the caller. */
	sigset_t signals;
	/* Any thread; level as in syslog(3). */
	void (*log)(void *userdata, int level, const char *line);
};

int acceptor_new(const struct acceptor_config *config, struct acceptor **ret_acceptor);
/* The watches that live in its epoll. */
struct watches *acceptor_watches(struct acceptor *acceptor);
/*
 * Returns at once; the thread acts soon after.  It begins without listening.  When it stops
 * listening, those at the door are closed.
 */
void acceptor_set_listening(struct acceptor *acceptor, bool listen);
/*
 * Ends the thread; those at the door are closed.  What it posted is still in the mailbox, and
 * mails of signals and watches live in the acceptor: deliver them before acceptor_free().
 * NULL-safe.
 */
void acceptor_stop(struct acceptor *acceptor);
/* After acceptor_stop().  NULL-safe. */
void acceptor_free(struct acceptor *acceptor);

#endif
