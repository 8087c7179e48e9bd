/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_H
#define IOASID_H

/*
 * libioasid: the C client library of ioasidd, the broker between tenants and a host's
 * IOMMUs.  docs/libioasid.md is the guide, lib/example/dma.c a whole program.
 *
 * One client is one connection, and when the broker is restarted, one after the other.  The
 * library makes the next connection by itself, has it take back the leases that the last one
 * held, and sends what was cut off once more under the same key: a program sees calls that
 * take longer.  What could not be taken back is never replaced in silence: calls in such a
 * lease fail, ioasid_error_is_lease_lost(), until the program acknowledges it.  See
 * ioasid_options.reconnect_ms, and "Restarts of the broker" in docs/libioasid.md.
 *
 * Results.  Functions return 0 or a negative errno.  Out-parameters come last, are named
 * ret_* and are untouched on failure, except ret_error: it may be NULL; if it is not, a
 * failing call stores an error there (never NULL, even without memory), to be freed with
 * ioasid_error_free().  Other out-parameters may be NULL where the comment says so.
 *
 * A refusal of the broker has changed nothing (but see ioasid_error_done()).  After -ENOMEM,
 * -ETIMEDOUT, -ECANCELED, -EPROTO and -ECONNRESET it is not known whether the call had its
 * effect: repeat it with a key of the program's own to find out.
 *
 * Memory.  What a function returns through a struct pointer is one heap object with all
 * that hangs on it, freed by the _free function of its type (all of them accept NULL).
 * Text in returned objects is never NULL; "" stands for absent.  A later version may add
 * members at the end of a returned struct: reach them through the pointer, do not copy
 * them by value.  Arguments are borrowed for the time of the call.
 *
 * Structs that the caller fills: set them to zero first ("= {0}"); members called
 * reserved must be zero.
 *
 * Threads.  Every function may be called from several threads at once on one client,
 * and calls run at the same time.  Objects returned are the caller's own.
 *
 * Fork.  gRPC core, which is underneath, starts threads: a child made by fork() must not
 * use a client of its parent, not even ioasid_client_unref(); it may exec.  Every fd of
 * the library is close-on-exec.
 *
 * Units.  Addresses and lengths are bytes.  Ids are 64-bit numbers of one lease, never
 * zero.  Devices are named by address, "0000:3b:00.0".  Text is UTF-8.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library that is running, "0.1.0". */
const char *ioasid_version(void);

/* ---- enumerations: numbers equal those of proto/ioasid.proto, and only grow ---- */

/* How an I/O page table comes about. */
enum ioasid_kind {
	IOASID_KIND_UNSPECIFIED = 0,
	/* Built by the broker's shim from map and unmap. */
	IOASID_KIND_KERNEL = 1,
	/* Written by the tenant, nested on a parent. */
	IOASID_KIND_USER = 2,
	/* The CPU page table of the calling process (SVA). */
	IOASID_KIND_PROCESS = 3,
	/* A VM's second-level table, shared and not copied. */
	IOASID_KIND_KVM = 4,
};

/* Layout of a page table; the number before "L" counts levels. */
enum ioasid_format {
	IOASID_FORMAT_UNSPECIFIED = 0,
	/* Intel 64 paging; also VT-d first stage and AMD v2. */
	IOASID_FORMAT_X86_64_4L = 1,
	IOASID_FORMAT_X86_64_5L = 2,
	/* VT-d second stage. */
	IOASID_FORMAT_VTDSS_3L = 3,
	IOASID_FORMAT_VTDSS_4L = 4,
	IOASID_FORMAT_VTDSS_5L = 5,
	/* Intel EPT. */
	IOASID_FORMAT_EPT_4L = 6,
	IOASID_FORMAT_EPT_5L = 7,
	/* AMD IOMMU v1 host table. */
	IOASID_FORMAT_AMDV1_1L = 8,
	IOASID_FORMAT_AMDV1_2L = 9,
	IOASID_FORMAT_AMDV1_3L = 10,
	IOASID_FORMAT_AMDV1_4L = 11,
	IOASID_FORMAT_AMDV1_5L = 12,
	IOASID_FORMAT_AMDV1_6L = 13,
	/* ARMv8 VMSA by stage and granule. */
	IOASID_FORMAT_ARMV8_S1_4K = 14,
	IOASID_FORMAT_ARMV8_S1_16K = 15,
	IOASID_FORMAT_ARMV8_S1_64K = 16,
	IOASID_FORMAT_ARMV8_S2_4K = 17,
	IOASID_FORMAT_ARMV8_S2_16K = 18,
	IOASID_FORMAT_ARMV8_S2_64K = 19,
	/* RISC-V; x4 is the G-stage. */
	IOASID_FORMAT_SV39 = 20,
	IOASID_FORMAT_SV48 = 21,
	IOASID_FORMAT_SV57 = 22,
	IOASID_FORMAT_SV39X4 = 23,
	IOASID_FORMAT_SV48X4 = 24,
	IOASID_FORMAT_SV57X4 = 25,
	/* The kernel chose and proves nothing more. */
	IOASID_FORMAT_KERNEL_CHOSEN = 26,
};

/* Whether DMA must snoop CPU caches. */
enum ioasid_snoop {
	IOASID_SNOOP_AUTO = 0,
	/* Attach refuses devices whose IOMMU cannot enforce it. */
	IOASID_SNOOP_ENFORCE = 1,
	IOASID_SNOOP_NONE = 2,
};

enum ioasid_granularity {
	IOASID_GRANULARITY_UNSPECIFIED = 0,
	/* Everything of the IOASID. */
	IOASID_GRANULARITY_ALL = 1,
	/* [iova, iova + length), widened to pages. */
	IOASID_GRANULARITY_RANGE = 2,
	/* Everything of one guest PASID. */
	IOASID_GRANULARITY_PASID = 3,
	/* The device's own TLB (ATS). */
	IOASID_GRANULARITY_DEVICE_TLB = 4,
	/* The PASID table's cache. */
	IOASID_GRANULARITY_PASID_CACHE = 5,
};

/* Why a walk or a DMA did not end in memory. */
enum ioasid_fault_cause {
	IOASID_FAULT_UNSPECIFIED = 0,
	IOASID_FAULT_NOT_PRESENT = 1,
	IOASID_FAULT_PERMISSION = 2,
	IOASID_FAULT_RESERVED_BITS = 3,
	/* x86-64: upper bits do not repeat the sign bit. */
	IOASID_FAULT_NON_CANONICAL = 4,
	/* The address has bits beyond the table's input width. */
	IOASID_FAULT_ADDRESS_WIDTH = 5,
	/* An entry's address is beyond the output width. */
	IOASID_FAULT_OUTPUT_WIDTH = 6,
	/* The device (or its PASID) is attached to nothing. */
	IOASID_FAULT_NOT_ATTACHED = 7,
	/* The address is reserved (for example the MSI window). */
	IOASID_FAULT_RESERVED_RANGE = 8,
	/* The memory behind the mapping is gone. */
	IOASID_FAULT_MEMORY_ERROR = 9,
	/* Another entry format error: misaligned, wrong level. */
	IOASID_FAULT_BAD_ENTRY = 10,
	/* Nested: a table or page of the child is not mapped by the parent. */
	IOASID_FAULT_PARENT_NOT_PRESENT = 11,
	/* Nested: the parent forbids the access. */
	IOASID_FAULT_PARENT_PERMISSION = 12,
	/*
	 * The entry would have to be marked as used (accessed, dirty), and the IOMMU does not do
	 * that (ARM, RISC-V).
	 */
	IOASID_FAULT_ACCESS_FLAG = 13,
};

/* What a DMA or walk asks for. */
enum ioasid_access {
	IOASID_ACCESS_UNSPECIFIED = 0,
	IOASID_ACCESS_READ = 1,
	IOASID_ACCESS_WRITE = 2,
	IOASID_ACCESS_EXECUTE = 3,
};

enum ioasid_device_state {
	IOASID_DEVICE_UNSPECIFIED = 0,
	IOASID_DEVICE_FREE = 1,
	/* Claimed by a lease of the caller's tenant. */
	IOASID_DEVICE_CLAIMED = 2,
	/* Claimed by somebody else. */
	IOASID_DEVICE_UNAVAILABLE = 3,
	/* Taken back; the previous holder's DMA may not be over. */
	IOASID_DEVICE_REVOKING = 4,
	/* The host itself uses it. */
	IOASID_DEVICE_HOST = 5,
};

/* Who passed a format candidate over. */
enum ioasid_refused_by {
	IOASID_REFUSED_BY_UNSPECIFIED = 0,
	IOASID_REFUSED_BY_DEVICE = 1,
	IOASID_REFUSED_BY_POLICY = 2,
	IOASID_REFUSED_BY_SHIM = 3,
	IOASID_REFUSED_BY_REQUEST = 4,
};

enum ioasid_event_type {
	IOASID_EVENT_UNSPECIFIED = 0,
	IOASID_EVENT_LEASE_OPENED = 1,
	IOASID_EVENT_LEASE_CLOSED = 2,
	IOASID_EVENT_DEVICE_CLAIMED = 3,
	IOASID_EVENT_DEVICE_RELEASED = 4,
	IOASID_EVENT_IOASID_ALLOCATED = 5,
	IOASID_EVENT_IOASID_FREED = 6,
	IOASID_EVENT_ATTACHED = 7,
	IOASID_EVENT_DETACHED = 8,
	IOASID_EVENT_QUOTA_REFUSED = 9,
	IOASID_EVENT_LIMIT_CHANGED = 10,
	IOASID_EVENT_POLICY_RELOADED = 11,
	IOASID_EVENT_TENANT_DRAINED = 12,
	IOASID_EVENT_LEASE_REVOKED = 13,
	IOASID_EVENT_DEVICE_REMOVED = 14,
	IOASID_EVENT_FAULT = 15,
	IOASID_EVENT_CONNECTION_OPENED = 16,
	IOASID_EVENT_CONNECTION_CLOSED = 17,
	/*
	 * Made by the library, never by a broker: the broker was restarted, and events may be
	 * missing from here to the next one.  sequence is that of the event before; the numbers
	 * that follow may be lower.  lost is 1, though how many it was is not known.
	 */
	IOASID_EVENT_GAP = 0x10000,
};

/* What a ticket that the client asks for is good for. */
enum ioasid_ticket_purpose {
	IOASID_TICKET_UNSPECIFIED = 0,
	/* Give a memfd, then register it. */
	IOASID_TICKET_MEMORY = 1,
	/* Give a pidfd, then open a lease that ends with the process. */
	IOASID_TICKET_PROCESS = 2,
};

enum ioasid_pasid_table_format {
	IOASID_PASID_TABLE_UNSPECIFIED = 0,
	IOASID_PASID_TABLE_VTD = 1,
	IOASID_PASID_TABLE_AMD_GCR3 = 2,
	IOASID_PASID_TABLE_SMMUV3_CD = 3,
	IOASID_PASID_TABLE_RISCV_PDT = 4,
};

enum ioasid_native_invalidation {
	IOASID_NATIVE_UNSPECIFIED = 0,
	/* {u64 addr, u64 npages, u32 flags, u32 0} */
	IOASID_NATIVE_VTD_S1 = 1,
	/* {le64 cmd[2]} */
	IOASID_NATIVE_SMMUV3 = 2,
};

enum ioasid_fault_response {
	IOASID_FAULT_RESPONSE_UNSPECIFIED = 0,
	IOASID_FAULT_RESPONSE_SUCCESS = 1,
	IOASID_FAULT_RESPONSE_INVALID = 2,
};

/* Status of a call: gRPC's numbers. */
enum ioasid_code {
	IOASID_OK = 0,
	IOASID_CANCELLED = 1,
	IOASID_UNKNOWN = 2,
	IOASID_INVALID_ARGUMENT = 3,
	IOASID_DEADLINE_EXCEEDED = 4,
	IOASID_NOT_FOUND = 5,
	IOASID_ALREADY_EXISTS = 6,
	IOASID_PERMISSION_DENIED = 7,
	IOASID_RESOURCE_EXHAUSTED = 8,
	IOASID_FAILED_PRECONDITION = 9,
	IOASID_ABORTED = 10,
	IOASID_OUT_OF_RANGE = 11,
	IOASID_UNIMPLEMENTED = 12,
	IOASID_INTERNAL = 13,
	IOASID_UNAVAILABLE = 14,
	IOASID_DATA_LOSS = 15,
	IOASID_UNAUTHENTICATED = 16,
};

/*
 * Text names, as the command line and policy files spell them: "x86_64-4l", "kernel",
 * "not-present".  "unspecified" for 0, NULL for a number that this version does not know.
 */
const char *ioasid_format_name(enum ioasid_format format);
const char *ioasid_kind_name(enum ioasid_kind kind);
const char *ioasid_snoop_name(enum ioasid_snoop snoop);
const char *ioasid_granularity_name(enum ioasid_granularity granularity);
const char *ioasid_fault_cause_name(enum ioasid_fault_cause cause);
const char *ioasid_device_state_name(enum ioasid_device_state state);
const char *ioasid_refused_by_name(enum ioasid_refused_by by);
const char *ioasid_event_name(enum ioasid_event_type type);
/* "read", "write", "execute" */
const char *ioasid_access_name(enum ioasid_access access);
/* "NOT_FOUND", as gRPC spells it. */
const char *ioasid_code_name(enum ioasid_code code);
/* -EINVAL: no such name. */
int ioasid_format_from_name(const char *name, enum ioasid_format *ret_format);
int ioasid_kind_from_name(const char *name, enum ioasid_kind *ret_kind);
int ioasid_snoop_from_name(const char *name, enum ioasid_snoop *ret_snoop);
int ioasid_granularity_from_name(const char *name, enum ioasid_granularity *ret_granularity);
int ioasid_event_from_name(const char *name, enum ioasid_event_type *ret_type);

/* ---- errors ---- */

/* Where an error was made. */
enum ioasid_error_origin {
	/* In the library: argument, memory, deadline, cancellation. */
	IOASID_ORIGIN_LOCAL = 0,
	/* Nobody listens at the socket, or this process may not connect. */
	IOASID_ORIGIN_CONNECT = 1,
	/* The connection ended; whether the call took effect is not known. */
	IOASID_ORIGIN_CONNECTION = 2,
	/* The broker refused; the reason is one of the status table in ioasid.proto. */
	IOASID_ORIGIN_BROKER = 3,
	/* gRPC or a program that is no broker answered. */
	IOASID_ORIGIN_GRPC = 4,
};

struct ioasid_metadata {
	const char *key;
	const char *value;
};

enum ioasid_violation_kind {
	/* subject: tenant; description: resource, limit, use, request */
	IOASID_VIOLATION_QUOTA = 1,
	/* type, subject, description */
	IOASID_VIOLATION_PRECONDITION = 2,
	/* subject: the request's field; description */
	IOASID_VIOLATION_FIELD = 3,
};

struct ioasid_violation {
	enum ioasid_violation_kind kind;
	const char *type;
	const char *subject;
	const char *description;
};

/*
 * errno of a status: INVALID_ARGUMENT EINVAL; NOT_FOUND ENOENT; PERMISSION_DENIED EACCES;
 * UNAUTHENTICATED EPERM; RESOURCE_EXHAUSTED EDQUOT (reason RATE: EAGAIN);
 * FAILED_PRECONDITION EBUSY; ALREADY_EXISTS EEXIST; ABORTED EAGAIN; UNAVAILABLE from the
 * broker EHOSTDOWN; UNIMPLEMENTED EOPNOTSUPP; CANCELLED ECANCELED; DEADLINE_EXCEEDED
 * ETIMEDOUT; a lost connection ECONNRESET; a lost lease ESTALE; a failed connect its own
 * errno; an answer that makes no sense EPROTO; all else EIO.
 */
struct ioasid_error {
	/* What the function returned. */
	int error;
	enum ioasid_code code;
	enum ioasid_error_origin origin;
	/*
	 * "QUOTA", "NOT_FOUND", ...: the status table in ioasid.proto.  Of the library itself:
	 * NO_SERVER, CONNECTION_LOST, OUT_OF_MEMORY, INVALID_CALL, TIMED_OUT, CANCELLED,
	 * STREAM_ENDED, BAD_ANSWER, FD_UNSUITABLE, LEASE_LOST, NOTHING_GIVEN, LEASE_FILE.
	 */
	const char *reason;
	/* One line for people, without newline. */
	const char *message;
	/* "Alloc", "connect", "give" ... */
	const char *method;
	size_t n_metadata;
	const struct ioasid_metadata *metadata;
	size_t n_violations;
	const struct ioasid_violation *violations;
	/* Milliseconds to wait before trying again; -1: none given. */
	int64_t retry_delay_ms;
};

void ioasid_error_free(struct ioasid_error *error);
/* Value of a metadata key; NULL: none.  error may be NULL here and below. */
const char *ioasid_error_metadata(const struct ioasid_error *error, const char *key);
/* Elements of an array that were done before the failure (metadata "done"); 0: none. */
uint64_t ioasid_error_done(const struct ioasid_error *error);
/* Role, policy, unknown caller or a refused ticket; or the socket's permissions. */
bool ioasid_error_is_denied(const struct ioasid_error *error);
/* A limit or a rate. */
bool ioasid_error_is_quota(const struct ioasid_error *error);
/* The broker has no such id, device, lease or mapping. */
bool ioasid_error_is_not_found(const struct ioasid_error *error);
/*
 * The call's lease, with all that was in it, did not survive a restart of the broker.  Every
 * call in it fails with this until the loss is acknowledged: by ioasid_lease_close() in that
 * lease, by ioasid_lease_open() or ioasid_lease_adopt() of its name, or by
 * ioasid_client_forget_lost().
 */
bool ioasid_error_is_lease_lost(const struct ioasid_error *error);
/* Nobody listens, or the connection was lost. */
bool ioasid_error_is_no_server(const struct ioasid_error *error);
/* The same call (with the same key, if it changes something) may succeed later. */
bool ioasid_error_is_retryable(const struct ioasid_error *error);

/* ---- clients, scopes, cancellation ---- */

struct ioasid_client;
struct ioasid_cancel;

/* For timeout_ms: no deadline. */
#define IOASID_NO_TIMEOUT UINT32_MAX
/* For reconnect_ms: a connection that has ended is not replaced. */
#define IOASID_NO_RECONNECT (UINT32_MAX - 1)

struct ioasid_options {
	/* Of a call whose scope has none, milliseconds.  0: 30000. */
	uint32_t timeout_ms;
	/* Of the connect() itself, and of one fd hand-over.  0: 5000. */
	uint32_t connect_timeout_ms;
	/* Lease and tenant of scopes that are NULL or leave them NULL.  NULL: "". */
	const char *lease;
	const char *tenant;
	/*
	 * How long calls wait for a broker that is gone, milliseconds since it went, and never
	 * beyond their own deadline; then they fail with ioasid_error_is_no_server().  0: 30000;
	 * IOASID_NO_TIMEOUT: as long as the call may take; IOASID_NO_RECONNECT: not at all, and
	 * there is no second connection: when the first ends, every call fails.  When the time is
	 * over, calls fail after one more try each; while the program holds a lease the library
	 * goes on trying in the background, so that the client is good again when the broker is.
	 */
	uint32_t reconnect_ms;
	/* 0. */
	uint32_t flags;
	uint64_t reserved[3];
};

/*
 * Connects.  socket_path NULL: $IOASID_SOCKET, else /run/ioasid/ioasid.sock; a path that
 * starts with '@' names an abstract socket.  options may be NULL.  Fails at once, with
 * connect()'s errno and a message that names the path, when nobody listens.
 */
int ioasid_connect(const char *socket_path, const struct ioasid_options *options,
		   struct ioasid_client **ret_client, struct ioasid_error **ret_error);
/* Takes another reference and returns its argument. */
struct ioasid_client *ioasid_client_ref(struct ioasid_client *client);
/*
 * Gives one back; the last closes the connection, and with it the connection lease.
 * Watches hold references of their own.  NULL-safe; returns NULL.
 */
struct ioasid_client *ioasid_client_unref(struct ioasid_client *client);
/* The path that it is connected to; lives as long as the client. */
const char *ioasid_client_socket(const struct ioasid_client *client);
/*
 * An fd that reports POLLRDHUP and POLLHUP when the broker ends the connection.  Poll it
 * with events = POLLRDHUP and for nothing else; never read from it or close it.  When there
 * is a new connection, the same number stands for it (epoll wants it added again).
 */
int ioasid_client_fd(const struct ioasid_client *client);
/*
 * Ends the connection now, for good: calls that are under way or wait for a connection fail,
 * as all later ones do.  For use by another thread.
 */
void ioasid_client_disconnect(struct ioasid_client *client);
/* How often the library has made a new connection: it changes when a broker was restarted. */
uint64_t ioasid_client_restarts(const struct ioasid_client *client);
/*
 * Acknowledges that leases were lost (ioasid_error_is_lease_lost()): calls in the connection
 * lease make a new one again, in which the ids of the old one mean nothing or something else.
 * Returns how many leases that were, 0 if none was lost.  No thread may go on with ids of a
 * lost lease afterwards; to acknowledge the loss of one lease only, ioasid_lease_close() it.
 */
unsigned ioasid_client_forget_lost(struct ioasid_client *client);

/* Size of a key with its NUL. */
#define IOASID_KEY_SIZE 33
/* 128 random bits as 32 hexadecimal digits.  -errno: the kernel gave no random bytes. */
int ioasid_key_make(char ret_key[IOASID_KEY_SIZE]);

/* ioasid_scope.flags */
/*
 * A call is sent again when the broker answers ABORTED (BUSY) or RATE, until its deadline;
 * one that changes something gets a random key for that unless the scope has one.
 */
#define IOASID_SCOPE_RETRY (1u << 0)

/* In whose name, in which lease and how long.  NULL: the defaults of the client. */
struct ioasid_scope {
	/* A named lease that this connection holds; "": the connection lease; NULL: default. */
	const char *lease;
	/* Agents only: path of the tenant acted for, "org/team"; NULL: default. */
	const char *tenant;
	/*
	 * Idempotency key, at most 64 bytes; calls that change something only, others ignore
	 * it.  The same call with the same key in the same lease has one effect and gets the
	 * first one's answer.  Use it for one call: ioasid_register_memory() uses it for its
	 * last step.  Without one the library makes one for every call that it may have to
	 * send again after a restart of the broker.
	 */
	const char *key;
	/* Of this call, milliseconds; 0: the client's. */
	uint32_t timeout_ms;
	uint32_t flags;
	/* Ends the call when it is fired; NULL: none. */
	struct ioasid_cancel *cancel;
	uint64_t reserved[2];
};

/* NULL: no memory. */
struct ioasid_cancel *ioasid_cancel_new(void);
/*
 * Ends every call that was started with it, now and later, with -ECANCELED.  Thread-safe;
 * not for signal handlers.  Whether a call took effect is then unknown: repeat it with its
 * key to find out.
 */
void ioasid_cancel_fire(struct ioasid_cancel *cancel);
/* Calls under way hold references of their own.  NULL-safe; returns NULL. */
struct ioasid_cancel *ioasid_cancel_unref(struct ioasid_cancel *cancel);

/* ---- status ---- */

/* What a broker made of the registry that an earlier one left. */
struct ioasid_restart {
	uint64_t leases_restored;
	/* Something of them could not be restored; the broker's log names each. */
	uint64_t leases_ended;
	uint64_t memories;
	uint64_t ioasids;
	uint64_t mappings;
	uint64_t attachments;
	uint64_t devices;
	/* Requests that the earlier broker had begun: taken back, or brought to their end. */
	uint64_t undone;
	uint64_t redone;
	/* Objects of the kernel's or the keeper's that no lease knew; they were destroyed. */
	uint64_t strays;
	/* Records of the registry that could not be read. */
	uint64_t damaged_records;
	/* Leases of another boot of the machine, all gone. */
	uint64_t other_boot_leases;
	uint64_t duration_us;
};

struct ioasid_server_status {
	const char *version;
	/* "soft", "iommufd" ... */
	const char *shim;
	/* What the server can do, by name. */
	size_t n_capabilities;
	const char *const *capabilities;
	/* "tenant", "agent", "observer", "admin" */
	const char *role;
	const char *tenant;
	uint64_t uptime_seconds;
	/* Admin and observer only, else 0. */
	uint64_t connections;
	uint64_t leases;
	uint64_t ioasids;
	uint64_t policy_generation;
	/*
	 * How often a broker was started on its registry; 0: it keeps none, and a restart
	 * forgets everything.
	 */
	uint64_t registry_generation;
	/* Admin and observer only.  NULL: there was nothing to find when it started. */
	const struct ioasid_restart *restart;
};

/* scope: only timeout and cancel are used. */
int ioasid_server_status(struct ioasid_client *client, const struct ioasid_scope *scope,
			 struct ioasid_server_status **ret_status, struct ioasid_error **ret_error);
void ioasid_server_status_free(struct ioasid_server_status *status);

struct ioasid_check_problem {
	/* "tenant org/team", "lease 7", "lease 7 ioasid 3", "device 0000:3b:00.0", "registry" */
	const char *subject;
	const char *text;
};

struct ioasid_check_report {
	/* None: everything agrees.  At most 1000. */
	size_t n_problems;
	const struct ioasid_check_problem *const *problems;
	/* Problems beyond these. */
	uint64_t omitted;
	/* How much was compared. */
	uint64_t tenants;
	uint64_t leases;
	uint64_t objects;
	uint64_t counters;
};

/*
 * Has the broker compare what it counts with what it has, with the shim and with its
 * registry; changes nothing.  Admin and observer.  Problems are an answer, not an error.
 */
int ioasid_check(struct ioasid_client *client, const struct ioasid_scope *scope,
		 struct ioasid_check_report **ret_report, struct ioasid_error **ret_error);
void ioasid_check_report_free(struct ioasid_check_report *report);

/* ---- devices ---- */

/* [start, last], both inclusive. */
struct ioasid_address_range {
	uint64_t start;
	uint64_t last;
	/* "msi", "direct", "firmware"; "" in lists of valid ranges. */
	const char *use;
};

struct ioasid_format_capability {
	enum ioasid_format format;
	/* Width of addresses that go in and come out, bits. */
	uint32_t input_bits;
	uint32_t output_bits;
	/* Bit n: pages of 2^n bytes. */
	uint64_t page_sizes;
	bool access_dirty;
	bool execute;
	bool nest_child;
	bool nest_parent;
	/* Only tables that tenants write have it (kind USER). */
	bool tenant_only;
	/*
	 * Where nest_child: the narrowest table of a tenant's; every width up to input_bits may be
	 * asked for by ioasid_alloc_request.table_bits.
	 */
	uint32_t table_bits_least;
};

struct ioasid_kind_capability {
	enum ioasid_kind kind;
	bool supported;
	/* Why not. */
	const char *reason;
};

/* Something that is false or zero in the capabilities, and why: "pasid", "nesting", ... */
struct ioasid_feature_absence {
	const char *feature;
	const char *reason;
};

/* What a device and its IOMMU can do together. */
struct ioasid_device_capabilities {
	size_t n_formats;
	const struct ioasid_format_capability *const *formats;
	size_t n_kinds;
	const struct ioasid_kind_capability *const *kinds;
	/* 0: no PASIDs. */
	uint32_t pasid_bits;
	bool recoverable_faults;
	bool dirty_tracking;
	bool snoop_control;
	bool device_tlb;
	size_t n_invalidations;
	const enum ioasid_granularity *invalidations;
	size_t n_reserved;
	const struct ioasid_address_range *const *reserved;
	/* 1: no nesting. */
	uint32_t max_depth;
	/* Where the shim knows a reason. */
	size_t n_absent;
	const struct ioasid_feature_absence *const *absent;
};

struct ioasid_device {
	const char *address;
	/* "8086:10fb" */
	const char *vendor_device;
	/* PCI class, "020000" */
	const char *class_code;
	/* "dmar0" */
	const char *iommu;
	/* Isolation group; its devices go to one lease. */
	uint32_t group;
	/* Companions that the caller may know of, without this one. */
	size_t n_group_members;
	const char *const *group_members;
	/* And how many the tenant may not have: without them none of the group can be claimed. */
	uint32_t hidden_members;
	/* -1: unknown */
	int32_t numa_node;
	/* The host's, to which it goes back; "": none, or simulated. */
	const char *driver;
	enum ioasid_device_state state;
	/* The lease that holds it, if it is the caller's. */
	const char *lease;
	/* NULL: not asked for. */
	const struct ioasid_device_capabilities *capabilities;
	/* Admin, observer, agent: the tenant that holds it. */
	const char *tenant;
};

struct ioasid_devices {
	size_t n;
	const struct ioasid_device *const *items;
};

/* Lists ask for page after page until all is there. */
int ioasid_device_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       bool with_capabilities, struct ioasid_devices **ret_devices,
		       struct ioasid_error **ret_error);
/* With capabilities. */
int ioasid_device_get(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *device, struct ioasid_device **ret_device,
		      struct ioasid_error **ret_error);
/*
 * Claims 1 to 64 devices into the lease, all or none.  Together with what the lease holds
 * they must complete every isolation group that they touch; else GROUP_INCOMPLETE, and the
 * violations name the companions.  ret_devices may be NULL.
 */
int ioasid_claim(struct ioasid_client *client, const struct ioasid_scope *scope,
		 const char *const *devices, size_t n_devices, struct ioasid_devices **ret_devices,
		 struct ioasid_error **ret_error);
/* Detaches the devices and gives them back. */
int ioasid_release(struct ioasid_client *client, const struct ioasid_scope *scope,
		   const char *const *devices, size_t n_devices, struct ioasid_error **ret_error);
/* An fd of a claimed device (close-on-exec), the caller's to close. */
int ioasid_device_fd(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const char *device, int *ret_fd, struct ioasid_error **ret_error);
/*
 * The fd of the lease's own IOMMU context (close-on-exec; an open /dev/iommu), the caller's to
 * close, for the process that the lease was opened for with `delegate`.  Fails with WRONG_STATE
 * for another lease, or if that process has ended or may not be ended by the host's keeper.
 */
int ioasid_context_fd(struct ioasid_client *client, const struct ioasid_scope *scope, int *ret_fd,
		      struct ioasid_error **ret_error);
void ioasid_device_free(struct ioasid_device *device);
void ioasid_devices_free(struct ioasid_devices *devices);

/* ---- memory and tickets ---- */

/* Access that devices get; flags of ioasid_register_memory() and of mappings. */
#define IOASID_READ    (1u << 0)
#define IOASID_WRITE   (1u << 1)
#define IOASID_EXECUTE (1u << 2)

struct ioasid_memory {
	uint64_t id;
	uint64_t length;
	/* The memfd's page size; physical contiguity ends there. */
	uint64_t page_size;
	/* IOASID_READ, IOASID_WRITE */
	uint32_t flags;
	const char *label;
	/* Mappings that refer to it. */
	uint64_t mappings;
};

struct ioasid_memories {
	size_t n;
	const struct ioasid_memory *const *items;
};

/*
 * Registers [offset, offset + length) of a memfd that has F_SEAL_SHRINK; length 0: to the
 * end.  Both are multiples of the memfd's page size.  The fd stays the caller's and may be
 * closed afterwards.  No holes: every page was touched (MAP_POPULATE; fallocate() alone is
 * not enough).  flags: IOASID_READ, IOASID_WRITE, never more than the fd's access mode and
 * seals allow.  label: at most 64 bytes, may be NULL.
 *
 * Does OpenTicket, hands the fd over on a second connection, and RegisterMemory; all of it
 * again when the broker is restarted meanwhile, with one effect.  Repeated by the program with
 * a key of its own after it had its effect, it fails with KEY_REUSED, because the ticket is
 * another one; ioasid_memory_list() then tells the id.
 */
int ioasid_register_memory(struct ioasid_client *client, const struct ioasid_scope *scope, int fd,
			   uint64_t offset, uint64_t length, uint32_t flags, const char *label,
			   struct ioasid_memory **ret_memory, struct ioasid_error **ret_error);
/* *ret_pending (may be NULL): still mapped; gone at once for calls, charged until unmapped. */
int ioasid_unregister_memory(struct ioasid_client *client, const struct ioasid_scope *scope,
			     uint64_t memory, bool *ret_pending, struct ioasid_error **ret_error);
int ioasid_memory_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       struct ioasid_memories **ret_memories, struct ioasid_error **ret_error);
void ioasid_memory_free(struct ioasid_memory *memory);
void ioasid_memories_free(struct ioasid_memories *memories);

#define IOASID_TICKET_SIZE 16

struct ioasid_ticket {
	uint8_t bytes[IOASID_TICKET_SIZE];
	/* It expires so many milliseconds after it was made; 0: not told. */
	uint32_t lifetime_ms;
};

/*
 * The steps of a hand-over, for helpers that pass an fd for a program in another language.
 * give and take need no client and no gRPC: any process of the same user may do it.
 * socket_path as in ioasid_connect(); timeout_ms 0: 5000.  docs/fd-protocol.md.
 */
int ioasid_ticket_open(struct ioasid_client *client, const struct ioasid_scope *scope,
		       enum ioasid_ticket_purpose purpose, struct ioasid_ticket *ret_ticket,
		       struct ioasid_error **ret_error);
/* The fd stays the caller's. */
int ioasid_ticket_give(const char *socket_path, const uint8_t ticket[IOASID_TICKET_SIZE], int fd,
		       uint32_t timeout_ms, struct ioasid_error **ret_error);
/* *ret_fd is close-on-exec and the caller's. */
int ioasid_ticket_take(const char *socket_path, const uint8_t ticket[IOASID_TICKET_SIZE],
		       uint32_t timeout_ms, int *ret_fd, struct ioasid_error **ret_error);
/* RegisterMemory with a ticket whose memfd was given. */
int ioasid_register_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			   const uint8_t ticket[IOASID_TICKET_SIZE], uint64_t offset,
			   uint64_t length, uint32_t flags, const char *label,
			   struct ioasid_memory **ret_memory, struct ioasid_error **ret_error);
/* The ticket of a claimed device's fd, to be taken. */
int ioasid_device_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			 const char *device, struct ioasid_ticket *ret_ticket,
			 struct ioasid_error **ret_error);
/* A ticket for ioasid_context_fd(). */
int ioasid_context_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			  struct ioasid_ticket *ret_ticket, struct ioasid_error **ret_error);

/* ---- IOASIDs ---- */

/* A tenant-written table. */
struct ioasid_page_table {
	/* Address of the root in the parent's address space, aligned to the root's size. */
	uint64_t root;
	enum ioasid_format format;
	/* IOASID_TABLE_*: VT-d first stage. */
	uint32_t flags;
	uint64_t reserved[2];
};
#define IOASID_TABLE_SUPERVISOR_REQUEST (1u << 0)
#define IOASID_TABLE_WRITE_PROTECT	(1u << 1)
#define IOASID_TABLE_EXTENDED_ACCESS	(1u << 2)

/* A PASID table that the tenant wrote. */
struct ioasid_pasid_table {
	enum ioasid_pasid_table_format format;
	/* Width of PASIDs that the table holds; 0, SMMUv3 only: one descriptor. */
	uint32_t pasid_bits;
	/* In the parent's address space. */
	uint64_t root;
	/* Format-specific: SMMUv3 S1Fmt, AMD GLX, RISC-V PD mode. */
	uint32_t shape;
	uint32_t reserved[3];
};

/* ioasid_alloc_request.flags: features that every device must have */
#define IOASID_ALLOC_FAULTS	    (1u << 0)
#define IOASID_ALLOC_PASID	    (1u << 1)
#define IOASID_ALLOC_DIRTY_TRACKING (1u << 2)

struct ioasid_alloc_request {
	enum ioasid_kind kind;
	/*
	 * Devices that are going to be attached, at most 64, all claimed by the lease; none is
	 * allowed for IOASID_KIND_KERNEL.
	 */
	size_t n_devices;
	const char *const *devices;
	/* IOASID that this one is nested on; 0: none. */
	uint64_t parent;
	/* Best first, at most 32; none: the broker's order of preference. */
	size_t n_candidates;
	const enum ioasid_format *candidates;
	/* Least width of input addresses, bits; 0: any. */
	uint32_t input_bits;
	enum ioasid_snoop snoop;
	uint32_t flags;
	/* Kind USER: the table, if it is there already; else NULL. */
	const struct ioasid_page_table *table;
	/* Kind KVM: the VM. */
	uint64_t vm;
	/* At most 64 bytes, for people; may be NULL. */
	const char *label;
	/*
	 * Kind USER: exact width of the input addresses of the tables that will be bound, bits:
	 * 64 - TxSZ of an armv8-s1 table, 39, 48 or 57 of VT-d's and x86-64's.  0: the widest that
	 * the devices read.  Fixed then: it is choice.input_bits.
	 */
	uint32_t table_bits;
	uint32_t reserved32;
	uint64_t reserved[3];
};

/* One candidate that was passed over. */
struct ioasid_refusal {
	enum ioasid_format format;
	enum ioasid_refused_by by;
	/* Device address, or the tenant whose policy says no. */
	const char *who;
	const char *reason;
};

struct ioasid_choice {
	enum ioasid_format format;
	bool kernel_chosen;
	uint32_t input_bits;
	uint32_t output_bits;
	uint64_t page_sizes;
	bool enforce_snoop;
	/* IOVA ranges that may be mapped. */
	size_t n_valid;
	const struct ioasid_address_range *const *valid;
	size_t n_passed_over;
	const struct ioasid_refusal *const *passed_over;
};

/* What ioasid_alloc() would do. */
struct ioasid_offer {
	const struct ioasid_choice *choice;
	bool within_quota;
	/* Which quota would refuse. */
	const char *quota_refusal;
};

struct ioasid_info {
	uint64_t id;
	enum ioasid_kind kind;
	const struct ioasid_choice *choice;
	uint64_t parent;
	uint32_t depth;
	size_t n_devices;
	const char *const *devices;
	const char *label;
	uint64_t mappings;
	uint64_t mapped_bytes;
	uint64_t attachments;
	uint64_t children;
	bool dirty_tracking;
	/* Kind USER: what is bound, at most one of the two; NULL: not that. */
	const struct ioasid_page_table *table;
	const struct ioasid_pasid_table *pasid_table;
	/* Dirty pages are tracked now. */
	bool tracking;
	/* Kind KVM: the VM, which may have been destroyed since; else 0. */
	uint64_t vm;
};

struct ioasid_infos {
	size_t n;
	const struct ioasid_info *const *items;
};

/* Charges nothing, changes nothing. */
int ioasid_negotiate(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const struct ioasid_alloc_request *request, struct ioasid_offer **ret_offer,
		     struct ioasid_error **ret_error);
/* ret_choice may be NULL.  FORMAT_UNSUPPORTED: the violations tell who refused which. */
int ioasid_alloc(struct ioasid_client *client, const struct ioasid_scope *scope,
		 const struct ioasid_alloc_request *request, uint64_t *ret_ioasid,
		 struct ioasid_choice **ret_choice, struct ioasid_error **ret_error);
/* *ret_pending (may be NULL): still attached or nested on; gone at once, charged until then. */
int ioasid_free(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
		bool *ret_pending, struct ioasid_error **ret_error);
int ioasid_get(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
	       struct ioasid_info **ret_info, struct ioasid_error **ret_error);
int ioasid_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		struct ioasid_infos **ret_infos, struct ioasid_error **ret_error);
void ioasid_choice_free(struct ioasid_choice *choice);
void ioasid_offer_free(struct ioasid_offer *offer);
void ioasid_info_free(struct ioasid_info *info);
void ioasid_infos_free(struct ioasid_infos *infos);

struct ioasid_fault {
	enum ioasid_fault_cause cause;
	/* 1: the IOASID's own table, 2: its parent's ...; 0: no table. */
	uint32_t stage;
	/* Level of the entry at fault, 1: leaf; 0: before any entry was read. */
	uint32_t level;
	/* The address whose translation failed, in the address space of that stage. */
	uint64_t address;
	/* The entry at fault, raw. */
	uint64_t entry;
	enum ioasid_access access;
};

/* One entry that the walk read. */
struct ioasid_walk_level {
	uint32_t stage;
	uint32_t level;
	uint64_t input;
	/* Zero for tenants on a real IOMMU. */
	uint64_t table;
	uint32_t index;
	uint64_t entry;
	/* "table", "page 4K R W", "not present" ... */
	const char *decoded;
};

struct ioasid_translation {
	size_t n_levels;
	const struct ioasid_walk_level *const *levels;
	/* NULL: it translates, and the members below say where to. */
	const struct ioasid_fault *fault;
	uint64_t output;
	uint64_t page_size;
	/* IOASID_READ, IOASID_WRITE, IOASID_EXECUTE */
	uint32_t flags;
	/* The registered memory that it is, and the offset in it. */
	uint64_t memory;
	uint64_t offset;
};

/* A fault is an answer here, not an error: look at ->fault. */
int ioasid_translate(struct ioasid_client *client, const struct ioasid_scope *scope,
		     uint64_t ioasid, uint64_t iova, enum ioasid_access access,
		     struct ioasid_translation **ret_translation, struct ioasid_error **ret_error);
void ioasid_translation_free(struct ioasid_translation *translation);

/* ---- map, unmap, tables ---- */

/* Flags of a mapping besides IOASID_READ, IOASID_WRITE, IOASID_EXECUTE. */
/* ioasid_map() only: the broker chooses the IOVA. */
#define IOASID_MAP_CHOOSE (1u << 8)
/* The source is parent_address, not memory (KERNEL child of a KERNEL parent). */
#define IOASID_MAP_FROM_PARENT (1u << 9)

struct ioasid_map_entry {
	/* Multiple of the smallest page size. */
	uint64_t iova;
	/* A non-zero multiple of the smallest page size. */
	uint64_t length;
	uint64_t memory;
	uint64_t offset;
	uint64_t parent_address;
	uint32_t flags;
	uint32_t reserved;
};

struct ioasid_mapping {
	uint64_t iova;
	uint64_t length;
	uint64_t memory;
	uint64_t offset;
	uint64_t parent_address;
	uint32_t flags;
};

struct ioasid_mappings {
	size_t n;
	const struct ioasid_mapping *const *items;
};

struct ioasid_range {
	uint64_t iova;
	uint64_t length;
};

/*
 * 1 to 1024 entries, all or none.  ret_iovas: room for n_entries addresses, or NULL.  If
 * the kernel failed midway, ioasid_error_done() tells how many were mapped.
 */
int ioasid_map(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
	       const struct ioasid_map_entry *entries, size_t n_entries, uint64_t *ret_iovas,
	       struct ioasid_error **ret_error);
/*
 * 1 to 1024 ranges, each a superset of at least one mapping, splitting none.  Returns after
 * the IOTLBs are flushed.  ret_mappings and ret_bytes (may be NULL): what was unmapped.
 */
int ioasid_unmap(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t ioasid,
		 const struct ioasid_range *ranges, size_t n_ranges, uint64_t *ret_mappings,
		 uint64_t *ret_bytes, struct ioasid_error **ret_error);
/* Every mapping; there may be none. */
int ioasid_unmap_all(struct ioasid_client *client, const struct ioasid_scope *scope,
		     uint64_t ioasid, uint64_t *ret_mappings, uint64_t *ret_bytes,
		     struct ioasid_error **ret_error);
int ioasid_mapping_list(struct ioasid_client *client, const struct ioasid_scope *scope,
			uint64_t ioasid, struct ioasid_mappings **ret_mappings,
			struct ioasid_error **ret_error);
void ioasid_mappings_free(struct ioasid_mappings *mappings);

/* Kind USER.  Another table may be bound already: then it is a replace. */
int ioasid_bind_page_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			   uint64_t ioasid, const struct ioasid_page_table *table,
			   struct ioasid_error **ret_error);
int ioasid_unbind_page_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			     uint64_t ioasid, struct ioasid_error **ret_error);

int ioasid_bind_pasid_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			    uint64_t ioasid, const struct ioasid_pasid_table *table,
			    struct ioasid_error **ret_error);
int ioasid_unbind_pasid_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			      uint64_t ioasid, struct ioasid_error **ret_error);

/* ---- attachments, invalidation, dirty tracking ---- */

/* DMA without PASID.  Guest PASIDs are 1 to 2^20 - 1. */
#define IOASID_NO_PASID 0u

struct ioasid_attachment {
	const char *device;
	/* IOASID_NO_PASID: the device itself. */
	uint32_t pasid;
	uint64_t ioasid;
};

struct ioasid_attachments {
	size_t n;
	const struct ioasid_attachment *const *items;
};

/*
 * Attaching to a child implies its parents.  If (device, pasid) is attached to an ancestor
 * of the IOASID, the new attachment takes its place atomically; if to anything else,
 * ALREADY_ATTACHED: use ioasid_replace().
 */
int ioasid_attach(struct ioasid_client *client, const struct ioasid_scope *scope,
		  const char *device, uint32_t pasid, uint64_t ioasid,
		  struct ioasid_error **ret_error);
/* Returns after the IOTLBs are flushed. */
int ioasid_detach(struct ioasid_client *client, const struct ioasid_scope *scope,
		  const char *device, uint32_t pasid, struct ioasid_error **ret_error);
int ioasid_replace(struct ioasid_client *client, const struct ioasid_scope *scope,
		   const char *device, uint32_t pasid, uint64_t ioasid,
		   struct ioasid_error **ret_error);
int ioasid_attachment_list(struct ioasid_client *client, const struct ioasid_scope *scope,
			   struct ioasid_attachments **ret_attachments,
			   struct ioasid_error **ret_error);
void ioasid_attachments_free(struct ioasid_attachments *attachments);

/* ioasid_invalidate_entry.flags: RANGE, only leaf entries changed */
#define IOASID_INVALIDATE_LEAF (1u << 0)

struct ioasid_invalidate_entry {
	enum ioasid_granularity granularity;
	uint32_t flags;
	/* RANGE and DEVICE_TLB; length 0 with DEVICE_TLB: all. */
	uint64_t iova;
	uint64_t length;
	/* DEVICE_TLB: one device; NULL: all that are attached. */
	const char *device;
	/* PASID, DEVICE_TLB, PASID_CACHE */
	uint32_t pasid;
	uint32_t reserved;
};

/*
 * 1 to 4096 entries, done in order.  *ret_done: how many; fewer than n_entries means that
 * the tenant is over its rate, and *ret_retry_after_ms (may be NULL) tells when the next
 * one fits.
 */
int ioasid_invalidate(struct ioasid_client *client, const struct ioasid_scope *scope,
		      uint64_t ioasid, const struct ioasid_invalidate_entry *entries,
		      size_t n_entries, size_t *ret_done, uint32_t *ret_retry_after_ms,
		      struct ioasid_error **ret_error);
/* The same with an array in an architecture's own layout. */
int ioasid_invalidate_native(struct ioasid_client *client, const struct ioasid_scope *scope,
			     uint64_t ioasid, enum ioasid_native_invalidation type,
			     const void *entries, size_t size, size_t *ret_done,
			     uint32_t *ret_retry_after_ms, struct ioasid_error **ret_error);

int ioasid_dirty_set(struct ioasid_client *client, const struct ioasid_scope *scope,
		     uint64_t ioasid, bool enable, struct ioasid_error **ret_error);

struct ioasid_dirty_bitmap {
	uint64_t iova;
	/* Bytes that a bit stands for. */
	uint64_t page_size;
	uint64_t n_pages;
	/* Bit n % 8 of byte n / 8: the page at iova + n * page_size. */
	const uint8_t *bits;
};
/*
 * page_size: a power of two, at least the smallest page; iova and length are multiples.
 * clear: take the marks away.  At most 2^32 pages.
 *
 * With clear it is not sent again after a restart of the broker but fails with -ECONNRESET:
 * marks may be gone with the answer, so take every page of the range for written.  The same
 * holds for any other failure.  WRONG_STATE: not tracked now, or a table that the tenant wrote
 * has more than 16384 pages in the range; smaller ranges help.
 */
int ioasid_dirty_read(struct ioasid_client *client, const struct ioasid_scope *scope,
		      uint64_t ioasid, uint64_t iova, uint64_t length, uint64_t page_size,
		      bool clear, struct ioasid_dirty_bitmap **ret_bitmap,
		      struct ioasid_error **ret_error);
void ioasid_dirty_bitmap_free(struct ioasid_dirty_bitmap *bitmap);

/* ---- leases ---- */

#define IOASID_LEASE_SECRET_SIZE 32
/* Of a lease's name with its NUL. */
#define IOASID_LEASE_NAME_SIZE 129

struct ioasid_lease {
	/* "": a connection lease. */
	const char *name;
	const char *tenant;
	/* Held by this connection. */
	bool mine;
	bool held;
	bool closing;
	uint32_t linger_seconds;
	uint64_t ioasids;
	uint64_t memories;
	uint64_t devices;
	uint64_t attachments;
	/* Admin and observer only: the holder, and the lease's number for ioasid_revoke_lease(). */
	uint32_t uid;
	uint32_t pid;
	uint64_t serial;
	/* Restored after a restart of the broker; its holder has not come back yet. */
	bool awaited;
	/* As it was opened, see struct ioasid_lease_options.  UINT64_MAX: no limit of its own. */
	bool keep;
	bool handover;
	uint64_t max_ioasids;
	uint64_t max_registered_bytes;
	bool delegate;
};

struct ioasid_leases {
	size_t n;
	const struct ioasid_lease *const *items;
};

/*
 * Opens a named lease, [A-Za-z0-9._-]{1,128}, held by this connection; it survives without
 * a holder for linger_seconds, 0 to 86400.  pidfd: the lease closes when that process ends;
 * -1: none.  The secret is shown once, and ioasid_lease_adopt() asks for it.  The scope's
 * lease is not used.
 */
int ioasid_lease_open(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *name, uint32_t linger_seconds, int pidfd,
		      uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE],
		      struct ioasid_error **ret_error);
/* How a named lease lives, and what it may hold. */
struct ioasid_lease_options {
	/* Seconds that it survives without a holder, 0 to 86400. */
	uint32_t linger_seconds;
	/* It closes when this process ends; -1: none. */
	int pidfd;
	/* It survives without a holder for as long as that process lives; linger_seconds is 0. */
	bool keep;
	/*
	 * For agents: any program of the lease's tenant adopts it, with the secret, while nobody
	 * holds it; the agent takes it back from whoever does, with ioasid_lease_adopt().
	 */
	bool handover;
	/* Limits of this lease alone; UINT64_MAX: only its tenant's. */
	uint64_t max_ioasids;
	uint64_t max_registered_bytes; /* sum of the lengths of its memory */
	/*
	 * The lease's IOMMU context is for the process of pidfd, an unmodified VMM: see
	 * ioasid_context_fd().  Both limits are required, not 0, and charged in full; the
	 * process is ended with the lease.  docs/delegate.md.
	 */
	bool delegate;
};
#define IOASID_LEASE_OPTIONS_INIT                                                                  \
	{                                                                                          \
		0, -1, false, false, UINT64_MAX, UINT64_MAX, false                                 \
	}

/* As ioasid_lease_open(). */
int ioasid_lease_open_with(struct ioasid_client *client, const struct ioasid_scope *scope,
			   const char *name, const struct ioasid_lease_options *options,
			   uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE],
			   struct ioasid_error **ret_error);
/* The same as ioasid_lease_open() with a ticket of purpose PROCESS whose pidfd was given. */
int ioasid_lease_open_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			     const char *name, uint32_t linger_seconds,
			     const uint8_t ticket[IOASID_TICKET_SIZE],
			     uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE],
			     struct ioasid_error **ret_error);
/*
 * Holds a lease that nobody holds: one that the same user opened by the same socket, or that
 * an agent opened for handover to the caller's tenant.
 */
int ioasid_lease_adopt(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *name, const uint8_t secret[IOASID_LEASE_SECRET_SIZE],
		       struct ioasid_error **ret_error);
/* Closes the scope's lease and ends every object of it. */
int ioasid_lease_close(struct ioasid_client *client, const struct ioasid_scope *scope,
		       struct ioasid_error **ret_error);
int ioasid_lease_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		      struct ioasid_leases **ret_leases, struct ioasid_error **ret_error);
void ioasid_leases_free(struct ioasid_leases *leases);

/*
 * A lease that was given to this program by the one that started it (`ioasidctl exec`, a
 * container's hook): $IOASID_LEASE_FILE is the absolute path of a lease file, or "fd:N".  The
 * file is JSON, at most 16 KiB:
 *	{"version":1,"tenant":"acme/web","lease":"NAME","secret":"64 hexadecimal digits",
 *	 "devices":["0000:01:00.0"]}
 */
struct ioasid_given {
	const char *lease;
	const char *tenant;
	/* Claimed for the program; there may be none. */
	size_t n_devices;
	const char *const *devices;
};
/*
 * What is in the file; no broker is asked.  -ENODATA, reason NOTHING_GIVEN: the variable is not
 * set or empty.  -EINVAL, reason LEASE_FILE: the file or the variable makes no sense, and the
 * message names the key; another errno, reason LEASE_FILE: the file cannot be read.
 */
int ioasid_given_read(struct ioasid_given **ret_given, struct ioasid_error **ret_error);
void ioasid_given_free(struct ioasid_given *given);
/*
 * Adopts the lease, and makes it and its tenant what scopes that say nothing mean, unless
 * ioasid_options.lease was set (or .tenant, to another one).  The first lease stays that default.
 * If another connection holds it, waits for up to two seconds for that to end, as it does when
 * the holder has just left.  ret_name may be NULL.  Fails as ioasid_given_read() and
 * ioasid_lease_adopt() do.
 */
int ioasid_lease_adopt_given(struct ioasid_client *client, char ret_name[IOASID_LEASE_NAME_SIZE],
			     struct ioasid_error **ret_error);
/*
 * An fd of a device, from $IOASID_DEVICE_FDS ("0000:01:00.0=5 0000:01:00.1=6"): a duplicate,
 * close-on-exec, the caller's to close.  -ENODATA: none was given for this device (a simulated
 * device has none); -EINVAL: the variable makes no sense; -EBADF: that number is not open.
 */
int ioasid_given_device_fd(const char *address, int *ret_fd);
/* The same of the lease's own context, from $IOASID_CONTEXT_FD. */
int ioasid_given_context_fd(int *ret_fd);

/* ---- DMA of a simulated device ---- */

struct ioasid_dma_result {
	/* Bytes that moved. */
	size_t done;
	/* NULL: all moved; else what the IOMMU blocked after them. */
	const struct ioasid_fault *fault;
};

/*
 * The device reads `length` bytes of memory at the IOVA into data, or writes data there.
 * Any length: transfers above 1 MiB go in several requests, in order, and end at the first
 * fault.  A fault is an answer, not an error: look at ->fault.
 */
int ioasid_dma_read(struct ioasid_client *client, const struct ioasid_scope *scope,
		    const char *device, uint32_t pasid, uint64_t iova, void *ret_data,
		    size_t length, struct ioasid_dma_result **ret_result,
		    struct ioasid_error **ret_error);
int ioasid_dma_write(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const char *device, uint32_t pasid, uint64_t iova, const void *data,
		     size_t length, struct ioasid_dma_result **ret_result,
		     struct ioasid_error **ret_error);
void ioasid_dma_result_free(struct ioasid_dma_result *result);

/* ---- quotas ---- */

struct ioasid_resource_usage {
	/* "ioasids", "mapped_bytes" ... */
	const char *resource;
	/* UINT64_MAX: none of its own. */
	uint64_t limit;
	uint64_t reserved;
	/* The tenant and its descendants, reservations of children included. */
	uint64_t used;
	/* Of that, charged to this very tenant. */
	uint64_t own;
	uint64_t peak;
	/* Refusals by this tenant's own limit, and by any limit on the way up. */
	uint64_t refused_local;
	uint64_t refused;
};

struct ioasid_quota {
	const char *tenant;
	size_t n_resources;
	const struct ioasid_resource_usage *const *resources;
};

struct ioasid_resource_amount {
	const char *resource;
	uint64_t amount;
};

struct ioasid_quota_answer {
	bool fits;
	/* The first refusal. */
	const char *refusing_tenant;
	const char *resource;
	const char *explanation;
};

int ioasid_quota_get(struct ioasid_client *client, const struct ioasid_scope *scope,
		     struct ioasid_quota **ret_quota, struct ioasid_error **ret_error);
/* Would these amounts fit together?  Charges nothing. */
int ioasid_quota_explain(struct ioasid_client *client, const struct ioasid_scope *scope,
			 const struct ioasid_resource_amount *amounts, size_t n_amounts,
			 struct ioasid_quota_answer **ret_answer, struct ioasid_error **ret_error);
void ioasid_quota_free(struct ioasid_quota *quota);
void ioasid_quota_answer_free(struct ioasid_quota_answer *answer);

/* ---- watching ---- */

struct ioasid_watch;

struct ioasid_event {
	/* One sequence for the whole server; a watcher sees only some of it. */
	uint64_t sequence;
	/* Events that this watcher should have seen and lost just before this one. */
	uint64_t lost;
	/* Microseconds since 1970. */
	uint64_t time_us;
	enum ioasid_event_type type;
	const char *tenant;
	const char *lease;
	uint64_t ioasid;
	const char *device;
	const char *text;
};

struct ioasid_event_filter {
	/* Resume after this sequence number if it is still held; 0: from now. */
	uint64_t after_sequence;
	/* Only these; none: all. */
	size_t n_types;
	const enum ioasid_event_type *types;
	uint64_t reserved[2];
};

struct ioasid_fault_event {
	uint64_t sequence;
	uint64_t lost;
	uint64_t ioasid;
	const char *device;
	uint32_t pasid;
	const struct ioasid_fault *fault;
	/* Non-zero: to be answered by ioasid_fault_respond(). */
	uint64_t cookie;
	uint32_t group;
	bool last;
	/* Milliseconds until the broker answers INVALID by itself. */
	uint32_t deadline_ms;
};

/*
 * Starts a watch of the caller's own tenant (agents: of the scope's tenant).  filter may be
 * NULL.  The scope's timeout is of the whole watch; unset: none.  A refusal may come from
 * the first next() only, because the broker answers a stream when it has something to say.
 *
 * A watch is read by a thread of its own, with all signals blocked, into a queue of 256
 * messages; when that is full the broker is held back and counts what it then loses.
 *
 * A watch goes on after a restart of the broker, from the last event.  Where it is not sure
 * that none is missing, the next event is an IOASID_EVENT_GAP, at once.
 */
int ioasid_watch_events(struct ioasid_client *client, const struct ioasid_scope *scope,
			const struct ioasid_event_filter *filter, struct ioasid_watch **ret_watch,
			struct ioasid_error **ret_error);
/* Events of every tenant; admin and observer. */
int ioasid_watch_all_events(struct ioasid_client *client, const struct ioasid_scope *scope,
			    const struct ioasid_event_filter *filter,
			    struct ioasid_watch **ret_watch, struct ioasid_error **ret_error);
/*
 * Faults of one IOASID, or of the lease (ioasid 0).  A gap after a restart is a fault with
 * lost 1, ioasid 0, device "" and cookie 0; page requests from before it are answered INVALID.
 */
int ioasid_watch_faults(struct ioasid_client *client, const struct ioasid_scope *scope,
			uint64_t ioasid, uint64_t after_sequence, struct ioasid_watch **ret_watch,
			struct ioasid_error **ret_error);
/*
 * Readable (POLLIN) while a message or the end of the watch waits: for event loops; call
 * next() with timeout 0 then, until -EAGAIN.  Lives as long as the watch; never read it.
 */
int ioasid_watch_fd(const struct ioasid_watch *watch);
/*
 * The next one.  timeout_ms: 0 does not wait, IOASID_NO_TIMEOUT waits for ever.  -EAGAIN:
 * none within that time (*ret_error is not set).  Any other error ends the watch and is
 * returned again by every later call: -EPIPE the broker ended it (code IOASID_OK, reason
 * STREAM_ENDED), -ECANCELED it was cancelled, -ECONNRESET the connection is lost, or what
 * the broker refused (-EBUSY in place of -EAGAIN).  -EINVAL: a watch of the other kind.
 */
int ioasid_watch_next_event(struct ioasid_watch *watch, uint32_t timeout_ms,
			    struct ioasid_event **ret_event, struct ioasid_error **ret_error);
int ioasid_watch_next_fault(struct ioasid_watch *watch, uint32_t timeout_ms,
			    struct ioasid_fault_event **ret_fault, struct ioasid_error **ret_error);
/*
 * Ends it from another thread: a next() that waits returns -ECANCELED once the queue is
 * empty.
 */
void ioasid_watch_cancel(struct ioasid_watch *watch);
/* Ends and frees it; nobody may be in next().  NULL-safe; returns NULL. */
struct ioasid_watch *ioasid_watch_close(struct ioasid_watch *watch);
void ioasid_event_free(struct ioasid_event *event);
void ioasid_fault_event_free(struct ioasid_fault_event *event);

int ioasid_fault_respond(struct ioasid_client *client, const struct ioasid_scope *scope,
			 uint64_t cookie, enum ioasid_fault_response response,
			 struct ioasid_error **ret_error);

/* ---- virtual machines and processes ---- */

struct ioasid_memory_slot {
	uint32_t slot;
	/* IOASID_SLOT_* */
	uint32_t flags;
	uint64_t guest_address;
	/* 0: deletes the slot. */
	uint64_t size;
	uint64_t memory;
	uint64_t offset;
	uint64_t reserved[2];
};
#define IOASID_SLOT_READ_ONLY (1u << 0)

int ioasid_vm_create(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const char *label, uint64_t *ret_vm, struct ioasid_error **ret_error);
int ioasid_vm_set_slot(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t vm,
		       const struct ioasid_memory_slot *slot, struct ioasid_error **ret_error);
int ioasid_vm_destroy(struct ioasid_client *client, const struct ioasid_scope *scope, uint64_t vm,
		      struct ioasid_error **ret_error);

struct ioasid_vm {
	uint64_t id;
	const char *label;
	uint32_t slots;
	/* Sum of the sizes of the slots. */
	uint64_t slot_bytes;
	/* IOASIDs of it, those included that were freed and are still in use. */
	uint64_t ioasids;
};
struct ioasid_vms {
	size_t n;
	const struct ioasid_vm *const *items;
};
/* Those of the lease, by id.  A destroyed one is not listed, though IOASIDs may still use it. */
int ioasid_vm_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		   struct ioasid_vms **ret_vms, struct ioasid_error **ret_error);
void ioasid_vms_free(struct ioasid_vms *vms);

/* Kind PROCESS: a socket on which accesses arrive, the caller's to close. */
int ioasid_dma_service_open(struct ioasid_client *client, const struct ioasid_scope *scope,
			    int *ret_fd, struct ioasid_error **ret_error);

/*
 * The same with a thread that serves it: what devices do in IOASIDs of kind PROCESS happens to
 * the memory of this process, as it is mapped then; a page that is not there, or may not be
 * written, is the device's fault and nothing here.  One a process and lease.  It begins before
 * the first such IOASID is allocated, and goes on when the broker is restarted.  exec ends it,
 * and it ends with the lease; a child made by fork() has none.
 */
struct ioasid_service;
int ioasid_service_start(struct ioasid_client *client, const struct ioasid_scope *scope,
			 struct ioasid_service **ret_service, struct ioasid_error **ret_error);
/* False: the broker has ended it, for good. */
bool ioasid_service_is_running(const struct ioasid_service *service);
/*
 * Before the client is freed.  No access is under way when it returns, unless one has waited
 * for more than a second for a page whose fault nobody resolves.  The process's IOASIDs reach
 * nothing from then on.  NULL-safe; returns NULL.
 */
struct ioasid_service *ioasid_service_stop(struct ioasid_service *service);

/* ---- administration: of the scope only key, timeout, flags and cancel are used ---- */

struct ioasid_tenant {
	const char *path;
	const char *parent;
	size_t n_resources;
	const struct ioasid_resource_usage *const *resources;
	/* No new objects; goes when the last one does. */
	bool draining;
	/* No longer in the policy. */
	bool orphaned;
};

struct ioasid_tenants {
	size_t n;
	const struct ioasid_tenant *const *items;
};

/* subtree NULL or "": all.  with_unused: resources neither limited nor used, too. */
int ioasid_tenant_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *subtree, bool with_unused, struct ioasid_tenants **ret_tenants,
		       struct ioasid_error **ret_error);
/* Until the next policy reload.  ret_tenant may be NULL. */
int ioasid_limits_set(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *tenant, const struct ioasid_resource_amount *limits,
		      size_t n_limits, struct ioasid_tenant **ret_tenant,
		      struct ioasid_error **ret_error);
void ioasid_tenant_free(struct ioasid_tenant *tenant);
void ioasid_tenants_free(struct ioasid_tenants *tenants);

struct ioasid_reload {
	uint64_t generation;
	/* Tenants that the new policy no longer has and that still own objects. */
	size_t n_orphaned;
	const char *const *orphaned;
};
/* ret_reload may be NULL. */
int ioasid_policy_reload(struct ioasid_client *client, const struct ioasid_scope *scope,
			 struct ioasid_reload **ret_reload, struct ioasid_error **ret_error);
void ioasid_reload_free(struct ioasid_reload *reload);

/*
 * drain: refuse new objects; else take them again.  close_leases: end its leases now.
 * ret_leases_closed may be NULL.
 */
int ioasid_tenant_drain(struct ioasid_client *client, const struct ioasid_scope *scope,
			const char *tenant, bool drain, bool close_leases,
			uint64_t *ret_leases_closed, struct ioasid_error **ret_error);
int ioasid_revoke_lease(struct ioasid_client *client, const struct ioasid_scope *scope,
			uint64_t serial, struct ioasid_error **ret_error);
/* The lease that holds the device gives it up. */
int ioasid_revoke_device(struct ioasid_client *client, const struct ioasid_scope *scope,
			 const char *device, struct ioasid_error **ret_error);

/* One lease and what it holds. */
struct ioasid_lease_objects {
	const struct ioasid_lease *lease;
	size_t n_ioasids;
	const struct ioasid_info *const *ioasids;
	size_t n_memories;
	const struct ioasid_memory *const *memories;
	size_t n_attachments;
	const struct ioasid_attachment *const *attachments;
	size_t n_devices;
	const char *const *devices;
	/* Left out because the message would have been too long. */
	uint64_t omitted;
	/* Freed and still referred to: charged, in none of the lists. */
	uint64_t pending;
	size_t n_vms;
	const struct ioasid_vm *const *vms;
};

struct ioasid_objects {
	size_t n;
	const struct ioasid_lease_objects *const *items;
};

int ioasid_object_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       const char *subtree, struct ioasid_objects **ret_objects,
		       struct ioasid_error **ret_error);
void ioasid_objects_free(struct ioasid_objects *objects);

#ifdef __cplusplus
}
#endif

#endif
