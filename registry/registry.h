/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_H
#define IOASID_REGISTRY_H

/*
 * The registry: what a broker must know again after it was killed, on a tmpfs.
 *
 * One file, a log of batches (records.proto); each batch is one atomic change of one lease
 * (or of lease 0: what belongs to none).  It is mapped, so that a change is a copy and one
 * store that makes it valid: what a killed process had stored stays, without fsync.  It knows
 * nothing of brokers, policies or shims; the server and ioasidctl use it.
 *
 * Threads: one, except where said otherwise.
 *
 * Errors: 0, -errno, or REGISTRY_E_* with a message for people.
 */

#include "records.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Raised when an older reader would misunderstand what is written.  A test builds a newer one. */
#ifndef REGISTRY_SCHEMA
#define REGISTRY_SCHEMA 4
#endif

enum registry_error {
	/* Written by a newer release: nothing was touched. */
	REGISTRY_E_NEWER = 1,
	/* Another process has it open. */
	REGISTRY_E_LOCKED,
	/* Not a registry, or damaged so that nothing of it can be told. */
	REGISTRY_E_DAMAGED,
	/* The folder holds no registry (registry_load() only). */
	REGISTRY_E_NONE,
};

struct registry_problem {
	char message[256];
};

struct registry_boot_id {
	uint8_t bytes[16];
};

/* ---- what was read ---- */

/* One lease; arrays sorted by id (mappings: by IOASID and IOVA; keys: by order). */
struct registry_lease {
	uint64_t serial;
	/*
	 * Empty: consistent.  Else why this lease cannot be relied on: a batch of it is damaged,
	 * or an invariant does not hold.  Its records are what could be read; a device among them
	 * that a lease without damage has, too, is that one's.
	 */
	char damage[160];
	const Ioasid__Registry__Lease *lease;	/* NULL: only with damage */
	const Ioasid__Registry__Intent *intent; /* NULL: none */
	const Ioasid__Registry__Memory **memories;
	size_t n_memories;
	const Ioasid__Registry__Ioasid **ioasids;
	size_t n_ioasids;
	const Ioasid__Registry__Mapping **mappings;
	size_t n_mappings;
	const Ioasid__Registry__Attachment **attachments;
	size_t n_attachments;
	const Ioasid__Registry__Device **devices;
	size_t n_devices;
	const Ioasid__Registry__Vm **vms;
	size_t n_vms;
	const Ioasid__Registry__Slot **slots; /* by VM and number */
	size_t n_slots;
	const Ioasid__Registry__Key **keys;
	size_t n_keys;
	/* Highest id that any record of it ever named, plus one; at least lease->next_id. */
	uint64_t next_id;
};

struct registry_image {
	uint32_t schema;
	struct registry_boot_id boot;
	uint64_t generation;
	struct registry_lease *leases; /* by serial */
	size_t n_leases;
	/* Lease 0. */
	const Ioasid__Registry__Tenant **tenants;
	size_t n_tenants;
	const Ioasid__Registry__Held **held;
	size_t n_held;
	const Ioasid__Registry__Key **keys; /* of the Admin service */
	size_t n_keys;
	uint64_t last_serial; /* at least the highest of any lease ever named */
	uint64_t event_sequence;
	/* Batches that could not be read, and what of them it is known (first ones only). */
	uint64_t damaged;
	char damage[160];
	/*
	 * From some point on nothing can be told any more, not even which leases are concerned:
	 * every lease has damage.
	 */
	bool lost;
	uint64_t batches;
	uint64_t bytes; /* of the log that are used */
};

/*
 * Reads a registry and checks every invariant; writes nothing, takes no lock.  For a server
 * use registry_open().  E_NONE, E_NEWER, E_DAMAGED; -errno.
 */
int registry_load(const char *folder, struct registry_image **ret_image,
		  struct registry_problem *ret_problem);
/* The same of the bytes of a log, whatever they are; at an address that is a multiple of 8. */
int registry_load_bytes(const void *bytes, size_t size, struct registry_image **ret_image,
			struct registry_problem *ret_problem);
void registry_image_free(struct registry_image *image); /* NULL-safe */

/* ---- the open registry ---- */

struct registry;

/*
 * Room in the log that was promised to a change: appending into it cannot fail.  A member of
 * what it was taken for; all zero is empty.
 */
struct registry_room {
	size_t bytes;
};

enum registry_class {
	/* Something new: -ENOSPC where the file system has no room for it. */
	REGISTRY_GROWS,
	/* Gives something back: there is always room. */
	REGISTRY_RELEASES,
};

/*
 * Locks the folder (made if it is not there, mode 0700) and reads what is in it.  *ret_image
 * is NULL if there is no log, or a new empty folder.  The log is not written before
 * registry_begin().  E_NEWER, E_LOCKED; E_DAMAGED, and then *ret_registry is set all the same
 * (and *ret_image is NULL): the file is left, and registry_begin() with a suffix for aside takes
 * it out of the way.
 */
int registry_open(const char *folder, struct registry **ret_registry,
		  struct registry_image **ret_image, struct registry_problem *ret_problem);
/* Unlocks.  NULL-safe. */
void registry_close(struct registry *registry);

/*
 * Begins a new log of the next generation, beside the old one: whatever is appended goes into
 * the new one until registry_commit() puts it in the old one's place in one step.  Called at
 * the start, and whenever registry_wants_compaction(): then appends go to both, and the caller
 * appends, with registry_append_new(), everything that lives.  aside: NULL, or the suffix of
 * the name under which the old log is kept ("damaged", "other-boot").
 */
int registry_begin(struct registry *registry, const struct registry_boot_id *boot,
		   const char *aside);
int registry_commit(struct registry *registry);
/* Gives the new log up; the old one goes on. */
void registry_abandon(struct registry *registry);
bool registry_wants_compaction(const struct registry *registry);
bool registry_is_compacting(const struct registry *registry);

/*
 * Room that a batch needs: what it takes in the log, and what its records take in a later
 * snapshot, however that is cut into batches.
 */
size_t registry_batch_size(const Ioasid__Registry__Batch *batch);
/* Adds to room.  -ENOSPC (GROWS only). */
int registry_room_take(struct registry *registry, enum registry_class class, size_t bytes,
		       struct registry_room *room);
void registry_room_release(struct registry *registry, struct registry_room *room);
/*
 * One atomic change of a lease; room has enough for it and keeps the rest.  Cannot fail.  An empty
 * batch leaves no trace.
 */
void registry_append(struct registry *registry, struct registry_room *room, uint64_t lease,
		     const Ioasid__Registry__Batch *batch);
/* While compacting: into the new log only.  -ENOSPC: give it up (registry_abandon()). */
int registry_append_new(struct registry *registry, uint64_t lease,
			const Ioasid__Registry__Batch *batch);

/* As given to registry_open(); borrowed. */
const char *registry_folder(const struct registry *registry);

struct registry_stats {
	uint64_t generation;
	uint64_t used;	    /* bytes of the log with batches in them */
	uint64_t allocated; /* bytes of the file system, spare log included */
	uint64_t batches;
	uint64_t compactions;
	uint64_t refused; /* room that could not be had */
	/*
	 * Changes that are not in the log, for want of space: only after
	 * registry_wants_compaction() was not heeded.  Read again, their leases have damage.  A
	 * compaction heals it.
	 */
	uint64_t stale;
};
void registry_stats(const struct registry *registry, struct registry_stats *ret_stats);

#endif
