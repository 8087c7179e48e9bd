/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_SESSION_H
#define IOASID_CLI_SESSION_H

/*
 * The connection of one run of ioasidctl, the leases it holds, and the memfds behind the
 * memory that it registered.  Made on first use; a shell keeps it until its input ends.
 */

#include "cli.h"

#include "lib/ioasid.h"

/* Library objects are freed where they go out of scope. */
#define SESSION_CLEANUP(type, function)                                                            \
	static inline void function##_p(struct type **object)                                      \
	{                                                                                          \
		function(*object);                                                                 \
	}
SESSION_CLEANUP(ioasid_error, ioasid_error_free)
#define _cleanup_error_		 __attribute__((cleanup(ioasid_error_free_p)))
#define _cleanup_with_(function) __attribute__((cleanup(function##_p)))

/*
 * A connected client, with the lease of --lease adopted unless the running command says
 * otherwise.  An exit code; the failure is stored.
 */
int session_client(struct cli *cli, struct ioasid_client **ret_client);
/* One call of the library: who is asked, in whose name, and what went wrong. */
struct session_call {
	struct ioasid_client *client;
	struct ioasid_scope scope;
	struct ioasid_error *error;
};
static inline void session_call_deinit(struct session_call *call)
{
	ioasid_error_free(call->error);
}
#define _cleanup_call_ __attribute__((cleanup(session_call_deinit)))
/* session_client() and session_scope().  An exit code. */
int session_begin(struct cli *cli, struct session_call *ret_call);
/* In whose name the running command acts: --lease, --tenant, --key, --timeout. */
struct ioasid_scope session_scope(const struct cli *cli);
/* For methods that act in no lease, and refuse to be given one. */
struct ioasid_scope session_scope_without_lease(const struct cli *cli);
/* Stores the failure of a library call and returns its exit code. */
int session_fail(struct cli *cli, const struct ioasid_error *error);

/* The lease is held by this connection (opened or adopted), or no longer. */
void session_lease_held(struct cli *cli, const char *name);
void session_lease_gone(struct cli *cli, const char *name);
bool session_lease_is_held(struct cli *cli, const char *name);
/* 64 hexadecimal digits, one line.  An exit code. */
int session_secret_read(struct cli *cli, const char *path,
			uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE]);
/* Makes the file readable by its owner only; an existing file is replaced.  An exit code. */
int session_secret_write(struct cli *cli, const char *path,
			 const uint8_t secret[IOASID_LEASE_SECRET_SIZE]);
int session_lease_adopt(struct cli *cli, struct ioasid_client *client, const char *name);

/* The CPU's view of memory that this process registered. */
struct session_memory {
	char *lease;
	uint64_t id;
	uint8_t *bytes;
	size_t size;
	int fd;
};
/* Takes over fd and mapping, whatever happens. */
void session_memory_keep(struct cli *cli, uint64_t id, int fd, void *bytes, size_t size);
/* NULL: not registered by this process in this lease; the failure is stored. */
struct session_memory *session_memory_find(struct cli *cli, uint64_t id);
void session_memory_drop(struct cli *cli, uint64_t id);

void session_close(struct cli *cli);

#endif
