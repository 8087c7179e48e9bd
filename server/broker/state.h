/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_STATE_H
#define IOASID_BROKER_STATE_H

/*
 * The broker's objects and who points to whom.
 *
 *	broker -> tenants -> named leases
 *	broker -> sessions -> leases held, calls in progress
 *	lease  -> objects by id (memory, ioasid), devices, attachments, tickets, keys
 *	ioasid -> parent, mappings;  mapping -> memory;  attachment -> device, ioasid
 *
 * Everything here belongs to the state thread.  A worker sees only what its op owns and
 * shim objects of the op's lease.
 */

#include "kernel-shim/shim.h"
#include "policy/policy.h"
#include "registry/registry.h"
#include "server/broker/broker.h"
#include "server/broker/charge.h"
#include "server/broker/op.h"
#include "server/broker/tenant.h"
#include "server/broker/tree.h"

#include <sys/queue.h>

struct event_log;
struct key_table;

/* A process, told from a later one of the same pid. */
struct process_id {
	pid_t pid;	     /* 0: unknown */
	uint64_t start_time; /* clock ticks since boot */
};

/* ---- ids ---- */

/* A handle of one lease's table; never zero, never used again in that lease. */
struct object_id {
	uint64_t value;
};

enum object_type { OBJECT_MEMORY = 1, OBJECT_IOASID, OBJECT_VM };

struct object {
	RB_ENTRY(object) node; /* lease->objects by id; freed and pending: lease->unlisted */
	struct object_id id;
	struct lease *lease;
	enum object_type type;
	bool listed;
};
RB_HEAD(object_tree, object);

/* ---- memory ---- */

#define LABEL_MAX 64

struct memory {
	struct object object;
	int fd;
	struct shim_mem *shim;
	struct page_key key;
	uint64_t offset; /* in the file */
	uint64_t length;
	uint64_t page_size;
	uint32_t prot;
	uint64_t n_mappings;	 /* and slots of VMs */
	struct charge charge;	 /* broker_bytes */
	struct charge fd_charge; /* kept_fds, taken over from the ticket */
	struct page_charge registered;
	struct kept_fd *kept; /* the keeper's duplicate; NULL: there is none */
	char label[LABEL_MAX + 1];
};

/* ---- I/O address spaces ---- */

/* What negotiation chose; fixed at Alloc. */
struct choice {
	enum shim_format format;
	uint8_t input_bits;
	uint8_t output_bits;
	bool enforce_snoop;
	bool kernel_chosen;
	bool execute;
	bool write_only; /* the format can express write without read */
	uint64_t page_sizes;
	struct iova_ranges *valid; /* shared, counted */
};

/* Ranges of IOVA that may be mapped, in order; shared by IOASIDs that have the same. */
struct iova_ranges {
	LIST_ENTRY(iova_ranges) link; /* broker->ranges */
	unsigned refs;
	size_t n;
	struct {
		uint64_t start;
		uint64_t last;
	} ranges[];
};

struct mapping {
	RB_ENTRY(mapping) node; /* ioasid->mappings, by iova */
	uint64_t iova;
	uint64_t length;
	struct memory *memory; /* NULL: from the parent */
	uint64_t offset;       /* in memory, or the parent's address */
	uint32_t prot;
	uint32_t unmap_index; /* request element that names it, plus one; 0: none */
	bool published;
	struct charge charge;
	struct page_charge pinned;
};
RB_HEAD(mapping_tree, mapping);

/* ---- virtual machines ---- */

struct vm_slot {
	RB_ENTRY(vm_slot) by_number;  /* vm->slots */
	RB_ENTRY(vm_slot) by_address; /* vm->places */
	struct vm *vm;
	uint32_t number;
	bool read_only;
	uint64_t address; /* of the guest */
	uint64_t length;
	struct memory *memory;
	uint64_t offset;
	uint64_t table_bytes; /* that the shim's tables can come to; part of charge */
	struct charge charge;
};
RB_HEAD(vm_slot_tree, vm_slot);
RB_HEAD(vm_place_tree, vm_slot);

struct vm {
	struct object object;
	struct shim_vm *shim;
	struct vm_slot_tree slots;
	struct vm_place_tree places;
	uint32_t n_slots;
	uint32_t n_ioasids;
	uint64_t slot_bytes;	 /* the slots' sizes together */
	uint64_t table_bytes;	 /* of all slots */
	bool freed;		 /* pending */
	LIST_ENTRY(vm) retiring; /* lease->retiring_vms */
	struct charge charge;
	char label[LABEL_MAX + 1];
};

/* What a tenant has bound to an IOASID of kind USER. */
enum binding_kind { BINDING_NONE, BINDING_TABLE, BINDING_PASID_TABLE };

struct binding {
	enum binding_kind kind;
	union {
		struct shim_table table;
		struct shim_pasid_table pasid_table;
	};
};

struct ioasid {
	struct object object;
	enum shim_kind kind;
	uint8_t depth; /* 1: root */
	bool dirty_tracking;
	bool faults;
	bool tracking; /* dirty pages are tracked now */
	bool freed;    /* pending */
	struct choice choice;
	struct ioasid *parent;
	struct vm *vm; /* kind KVM */
	/* Kind PROCESS: see dma_service.h. */
	struct process_id process;     /* pid 0: its service has ended */
	struct dma_service *service;   /* NULL: ended, or to be opened again */
	LIST_ENTRY(ioasid) of_service; /* its, or lease->unserved */
	struct shim_pt *pt;
	struct shim_saved saved;
	struct binding binding;
	struct mapping_tree mappings;
	uint64_t n_mappings;
	uint64_t mapped_bytes;
	uint64_t choose_hint; /* where the search for a free IOVA goes on */
	uint32_t n_children;
	uint32_t n_attachments;
	uint32_t n_devices;
	struct device **devices;     /* named at Alloc */
	struct charge charge;	     /* ioasids, ioasids_KIND, broker_bytes incl. table bytes */
	uint64_t table_bytes;	     /* part of charge's broker_bytes */
	LIST_ENTRY(ioasid) retiring; /* lease->retiring_ioasids */
	char *label;		     /* NULL: none */
};

/* ---- devices and attachments ---- */

struct device {
	const struct shim_device_info *info;
	unsigned index; /* in broker->devices, sorted by address */
	/* Claimed by, or on the way to or from; NULL: free. */
	struct lease *lease;
	bool bound;	 /* claim is complete */
	bool revoking;	 /* DMA of the last holder may not be over */
	bool fd_given;	 /* the tenant has, or may take, an fd of it */
	bool not_free;	 /* what the shim said last, when its lease let it go */
	bool held;	 /* on broker->held: no lease has it, but its last holder an fd */
	bool held_freed; /* found by the check that runs on a worker */
	struct shim_dev *shim;
	struct shim_saved saved;
	struct charge charge;
	uint32_t n_attachments;
	uint16_t fault_group;	       /* of its next page request */
	TAILQ_ENTRY(device) link;      /* lease->devices, broker->held */
	struct delegation *delegation; /* held: its lease's; NULL: none */
};
TAILQ_HEAD(device_list, device);

struct attachment {
	RB_ENTRY(attachment) node; /* lease->attachments, by (device index, pasid) */
	struct device *device;
	uint32_t pasid;	   /* the guest's; SHIM_NO_PASID: the RID */
	uint32_t physical; /* what the shim knows it by; pasid.h */
	struct ioasid *ioasid;
	struct shim_saved saved;
	struct charge charge;
	bool published;
};
RB_HEAD(attachment_tree, attachment);

/* ---- leases ---- */

#define LEASE_NAME_MAX	  128
#define LEASE_SECRET_SIZE 32
#define LEASE_TICKETS_MAX 16
#define RESUME_TOKEN_SIZE 32

enum lease_state { LEASE_OPEN, LEASE_CLOSING, LEASE_REAPING };

LIST_HEAD(ioasid_list, ioasid);
LIST_HEAD(vm_list, vm);
LIST_HEAD(dma_service_list, dma_service);
TAILQ_HEAD(dma_access_list, dma_access);
LIST_HEAD(ticket_list, ticket);
RB_HEAD(pasid_tree, pasid);
STAILQ_HEAD(call_queue, broker_call);
LIST_HEAD(call_list, broker_call);
TAILQ_HEAD(fault_list, fault);

/* Whom a lease is kept for: the connection that held it, and its process. */
struct lease_claimant {
	char socket[64];
	uid_t uid;
	gid_t gid;
	struct process_id process;
	uint8_t token[RESUME_TOKEN_SIZE];
};

/* Of one lease, beside its tenant's; UINT64_MAX: none. */
struct lease_limits {
	uint64_t ioasids;
	uint64_t registered_bytes;
};

struct lease {
	struct broker *broker;
	struct tenant *tenant;
	uint64_t serial;
	enum lease_state state;
	struct broker_session *holder; /* NULL: nobody */
	LIST_ENTRY(lease) held;	       /* holder->leases */
	TAILQ_ENTRY(lease) all;	       /* broker->leases */
	RB_ENTRY(lease) by_name;       /* tenant->leases; named ones */

	/* Named leases. */
	char *name; /* NULL: a connection lease */
	uint8_t secret[LEASE_SECRET_SIZE];
	uint32_t linger_seconds;
	uint64_t linger_until_us; /* UINT64_MAX: held, or kept */
	bool keep;		  /* for as long as the watched process lives */
	bool handover;		  /* its tenant's programs may adopt it */
	struct lease_limits limits;
	struct broker_peer opener; /* who may adopt: socket and uid */
	char opener_socket[64];
	char *open_key; /* idempotency key of the OpenLease */
	uint64_t open_hash;
	struct broker_watch watch;     /* fd -1: none */
	struct process_id watched;     /* whom it watches */
	struct delegation *delegation; /* NULL: its context is the broker's */

	/* After a restart of the broker: held by nobody, until the holder resumes it. */
	struct lease_claimant *awaited; /* NULL: it is not */
	struct broker_watch awaited_watch;

	bool recorded;		   /* the registry has it */
	struct registry_room room; /* for its record, until then */
	bool ctx_saved;
	struct shim_saved saved; /* of ctx */

	struct shim_ctx *ctx; /* made with the first object */
	uint64_t next_id;
	bool was_closing; /* restored, and to be closed as soon as the registry is written */
	struct object_tree objects;
	struct object_tree unlisted;	     /* freed, and still referred to or being taken down */
	struct ioasid_list retiring_ioasids; /* nothing refers to them any more */
	struct vm_list retiring_vms;
	uint64_t n_memory;	   /* pending ones included */
	uint64_t registered_bytes; /* the sum of their lengths */
	uint64_t n_ioasids;	   /* likewise */
	uint64_t n_vms;
	uint64_t n_pending_memory;
	uint64_t n_pending_ioasids; /* retiring ones included */
	uint64_t n_pending_vms;
	struct device_list devices;
	uint64_t n_devices;
	struct attachment_tree attachments;
	uint64_t n_attachments;
	struct pasid_tree pasids; /* attached ones; pasid.h */
	struct ticket_list tickets;
	unsigned n_tickets;
	struct dma_service_list services;
	struct ioasid_list unserved; /* restored, their process has not come back yet */
	struct key_table *keys;	     /* NULL: none remembered */

	/* See fault.h. */
	struct fault_list faults;	  /* page requests that wait for an answer */
	struct fault_log *fault_log;	  /* NULL: nothing happened, and nobody watches */
	struct broker_watch report_watch; /* of ctx; fd -1: none */
	bool reports_due;		  /* to be read when no op is in flight */

	/* The call whose op is in flight, and those that wait for it. */
	struct broker_call *active;
	struct call_queue waiting;
	struct call_list parked; /* neither: call_park() */
	bool running_queue;
	bool made_in_vain; /* the call that made it was refused: goes if nothing is in it */
	bool leaving;	   /* the broker ends and its objects stay for the next one */
	struct broker_call *closer; /* waits for the end; NULL: nobody */

	struct op close_op;
	struct charge charge;
};
TAILQ_HEAD(lease_list, lease);
LIST_HEAD(held_list, lease);
LIST_HEAD(delegation_list, delegation);

/* ---- sessions ---- */

struct broker_session {
	struct broker *broker;
	TAILQ_ENTRY(broker_session) all;
	void *connection;
	struct broker_peer peer;
	char socket[64];
	struct process_id process; /* found out with its first lease */
	uint8_t token[RESUME_TOKEN_SIZE];
	enum policy_role role;
	struct tenant *tenant; /* own, or root of the subtree; NULL: unknown or refused */
	bool refused;	       /* over the limit of connections */
	struct quota_refusal refusal;
	struct held_list leases;
	struct call_list calls;
	struct charge charge;
};
TAILQ_HEAD(session_list, broker_session);

/* ---- the broker ---- */

RB_HEAD(ticket_tree, ticket);
LIST_HEAD(iova_ranges_list, iova_ranges);

/* What the start made of what an earlier broker left; RestartReport. */
struct restart_report {
	bool found; /* there was something */
	uint64_t leases_restored;
	uint64_t leases_ended;
	uint64_t memories;
	uint64_t ioasids;
	uint64_t mappings;
	uint64_t attachments;
	uint64_t devices;
	uint64_t undone;
	uint64_t redone;
	uint64_t strays;
	uint64_t damaged;
	uint64_t duration_us;
	uint64_t other_boot_leases;
};

struct broker {
	const struct broker_host_ops *host_ops;
	void *host;
	struct shim *shim;
	struct policy *policy;
	char *policy_path;
	uint64_t policy_generation;
	uint64_t started_us;

	struct tenant_tree tenants;
	struct session_list sessions;
	unsigned n_sessions;
	unsigned n_refused_sessions;
	struct lease_list leases;
	uint64_t n_leases;
	uint64_t n_ioasids;
	uint64_t last_serial;
	struct device *devices;
	size_t n_devices;
	struct delegation_list delegations;
	struct device_list held;    /* see device_held.c */
	struct device **held_check; /* those that held_op looks at; room for all */
	size_t n_held_check;
	bool held_running;
	uint64_t held_at_us; /* when to look again */
	struct op held_op;
	struct ticket_tree tickets;
	struct iova_ranges_list ranges;
	struct pasid_pool *pasids; /* NULL: none was translated yet */
	struct event_log *events;
	struct key_table *keys; /* of the Admin service; NULL: none remembered */
	struct op_queue later;
	uint64_t n_ops; /* in flight */
	uint64_t n_calls;
	uint64_t charge_changes;  /* moved by every charge; rpc_check.c */
	struct fault_list faults; /* of all leases, in the order of their deadlines */
	uint64_t last_cookie;
	uint64_t fault_timeout_us;
	struct dma_access_list dma_accesses; /* of all leases, in the order of their deadlines */
	uint64_t next_expiry_us; /* no later than the first ticket or linger to expire */
	bool ending;
	bool shutting_down;
	bool restoring; /* limits do not hold: what is charged exists already */

	/* See journal.h. */
	struct registry *registry; /* NULL: none is kept */
	struct keeper *keeper;	   /* holds fds for the next broker; NULL: nobody does */
	struct compact_cursor *compaction;
	uint64_t events_written; /* events are numbered up to here without another record */
	uint64_t key_order;
	struct registry_boot_id boot;
	uint64_t grace_us;
	struct restart_report restart;
	struct kept_fds *kept_fds;
};

static inline uint64_t broker_now(struct broker *broker)
{
	return broker->host_ops->monotonic_us(broker->host);
}
void broker_log(struct broker *broker, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Something expires at `us`. */
static inline void broker_expect(struct broker *broker, uint64_t us)
{
	if (us < broker->next_expiry_us)
		broker->next_expiry_us = us;
}

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
