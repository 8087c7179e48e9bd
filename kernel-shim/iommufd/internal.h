/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_INTERNAL_H
#define IOASID_IOMMUFD_INTERNAL_H

/*
 * The objects of the iommufd shim, shared by the files that implement shim_ops.
 *
 * Threads.  All of a context belongs to the one thread that makes calls on it (shim.h).  What
 * contexts share: the inventory, immutable; the keeper's client, which locks itself; and the
 * debts, under shim->lock, which is never held over a call that blocks.
 *
 * A tenant may hold a duplicate of a device's descriptor and make VFIO calls on it by itself:
 * attach and detach its device within its own context.  So the kernel's attachments can
 * differ from those recorded here, and nothing here relies on the record for safety: a table
 * is emptied before it is given up, whoever is still attached to it.
 */

#include "iommufd/backend.h"
#include "iommufd/host.h"
#include "iommufd/nested.h"
#include "iommufd/tables.h"
#include "iommufd/uapi.h"
#include "list.h"

#include <pthread.h>
#include <string.h>

/*
 * What one IOMMU_IOAS_MAP_FILE maps at most.  Between two of them a caller that gives up is
 * heard, so it bounds how long a cancelled Map goes on, and its undo.  Measured on Linux 7.3.4
 * in QEMU without KVM (4 KiB pages, a device attached): 22 ms for 256 MiB, 3.4 ms for 64 MiB,
 * 30 us for 64 KiB; so it is some 80 us a MiB, and a call for itself is less than a thousandth
 * of a chunk.  Without an attached device nothing is pinned and any size takes 0.2 ms.
 */
#define IOMMUFD_CHUNK (UINT64_C(256) << 20)

/* How often a call is made again that has no reason to fail and must not. */
#define IOMMUFD_TRIES 4

/*
 * What the keeper did not take back: it was not there.  Asked again from time to time.  Made
 * with the object whose release it stands for, so that a release needs no memory.
 */
struct iommufd_debt {
	struct iommufd_debt *next;
	struct keeper_context_id context;
	char address[SHIM_NAME_MAX]; /* "": the context itself */
};

struct iommufd_shim {
	struct shim base;
	struct shim_ops ops; /* base's: those of the back end with them */
	const struct iommufd_backend *backend;
	struct iommufd_sys sys;
	struct iommufd_kernel kernel;
	struct iommufd_host host;
	pthread_mutex_t lock;
	struct iommufd_debt *debts;
	char description[512];
};

struct iommufd_ctx {
	struct shim_ctx base;
	int fd;
	struct keeper_context_id id;
	struct iommufd_dev *devices;
	struct iommufd_mem *memories;
	struct iommufd_pt *tables;
	struct iommufd_debt *debt;
	/* Readable when there are page requests, or a vIOMMU has events (vevents.c); -1: none. */
	int reports;
	/* Page requests: faults.c. */
	uint32_t fault_queue; /* 0: none */
	int fault_fd;	      /* -1: none */
	uint32_t fault_epoch; /* which queue it is: cookies of another are of no use */
	/* Between ctx_restore() and ctx_restored(): more or less may be there than is recorded. */
	bool restoring;
	/* A process outside has it: what is in it is not known, and nothing is made here. */
	bool delegated;
};

/*
 * A page table of the kernel's that was made explicitly, behind one IOMMU: for devices with
 * PASIDs (only one with the flag ALLOC_PASID may be attached there, with or without one), for
 * dirty tracking, for page requests; as the parent of nested ones; or nested itself.  Lives from
 * the first attachment, or child, to the last.
 */
struct iommufd_hwpt {
	struct iommufd_hwpt *next;
	const struct iommufd_unit *unit;
	struct iommufd_hwpt *parent; /* nested by itself, not by a view: of pt->parent */
	uint32_t id;
	uint32_t n_attached; /* devices, or children and the view (viommu.h) */
	uint32_t epoch;	     /* of the table when it was made */
	bool is_parent;	     /* made for children; nothing is attached */
	bool pasid;	     /* made for devices with PASIDs */
	bool gone;	     /* the kernel has it no more */
};

/* What is kept of one for a restart. */
struct iommufd_saved_hwpt {
	uint32_t id;	 /* 0: attached to the IOAS */
	uint32_t parent; /* 0: not nested */
	uint32_t epoch;
};

struct iommufd_attachment {
	uint32_t pasid;
	struct iommufd_pt *pt;	   /* NULL: none */
	struct iommufd_hwpt *hwpt; /* NULL: attached to the IOAS */
	/* While all attachments of a table move: where this one is already. */
	struct iommufd_hwpt *next;
	bool is_moved;
};

struct iommufd_dev {
	struct shim_dev base;
	struct iommufd_ctx *ctx;
	struct iommufd_dev *prev, *next;
	const struct iommufd_slot *slot;
	int fd;
	uint32_t id;			       /* in the iommufd */
	uint32_t own[IOMMUFD_BACKEND_OBJECTS]; /* the back end's objects; 0: none */
	void *backend;			       /* and its memory */
	uint8_t pasid_bits;
	struct iommufd_view *view; /* it is a vDEVICE there; NULL: nowhere */
	uint32_t vdevice;
	const char *nests_not;		 /* why no table can be nested for it; NULL: it can */
	struct iommufd_attachment plain; /* SHIM_NO_PASID */
	struct iommufd_attachment *pasids;
	size_t n_pasids;
	size_t room;
	struct iommufd_debt *debt;
};

struct iommufd_mem {
	struct shim_mem base;
	struct iommufd_ctx *ctx;
	struct iommufd_mem *prev, *next;
	int fd; /* the broker's, which keeps it open */
	uint64_t offset;
	uint64_t length;
	uint32_t prot;
};

/* What is bound to a table of kind USER behind an SMMUv3. */
struct smmuv3_binding {
	enum { SMMUV3_NOTHING, SMMUV3_TABLE, SMMUV3_PASID_TABLE } what;
	uint8_t pasid_bits;
	uint8_t shape; /* S1Fmt */
	int slot;      /* of the parent's context descriptors; -1: none */
	uint64_t root;
};

struct iommufd_view; /* viommu.h */
struct smmuv3_page;  /* smmuv3_tables.c */

struct iommufd_pt {
	struct shim_pt base;
	struct iommufd_ctx *ctx;
	struct iommufd_pt *prev, *next;
	struct iommufd_hwpt *hwpts;
	struct tables tables;
	/* Kind USER: an empty one, for what is attached while no table is bound. */
	uint32_t ioas;
	uint32_t n_attached;
	uint8_t format; /* enum shim_format */
	uint8_t input_bits;
	bool snoop;
	bool faults;
	bool user; /* kind USER; then: */
	struct iommufd_pt *parent;
	bool bound;
	struct shim_table table;
	uint32_t n_children;
	/* Kind USER behind an SMMUv3: not user, no ioas, and in the place of bound and table: */
	bool smmuv3;
	struct smmuv3_binding binding;
	/* Of its parent. */
	struct iommufd_view *views;
	struct smmuv3_page *cds; /* NULL: none */
	/* Goes up when what the hardware must be told of the table changes. */
	uint32_t epoch;
	/* dirty.c; NULL: made without. */
	struct iommufd_dirty *dirty;
	/* An undo failed: more may be mapped than is known.  It can only be freed. */
	bool broken;
};

/* Written by a tenant, whichever the hardware: no parent of others, and nothing is mapped there. */
static inline bool iommufd_is_tenants(const struct iommufd_pt *pt)
{
	return pt->user || pt->smmuv3;
}

static inline struct iommufd_shim *iommufd_shim_of(struct shim *shim)
{
	return (struct iommufd_shim *)shim;
}
static inline struct iommufd_ctx *iommufd_ctx_of(struct shim_ctx *ctx)
{
	return (struct iommufd_ctx *)ctx;
}
static inline struct iommufd_dev *iommufd_dev_of(struct shim_dev *dev)
{
	return (struct iommufd_dev *)dev;
}
static inline struct iommufd_mem *iommufd_mem_of(struct shim_mem *mem)
{
	return (struct iommufd_mem *)mem;
}
static inline struct iommufd_pt *iommufd_pt_of(struct shim_pt *pt)
{
	return (struct iommufd_pt *)pt;
}

/* Writes a reason of SHIM_REASON_MAX bytes, if one is wanted, and returns error. */
int iommufd_refuse(char *ret_reason, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void iommufd_problem_set(struct iommufd_problem *ret_problem, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
const char *iommufd_keeper_error(int error);

/* shim.c: takes sys over, also on failure. */
int iommufd_shim_new_on(const struct iommufd_sys *sys, const struct iommufd_backend *backend,
			const char *sysfs_root, struct shim **ret_shim,
			struct iommufd_problem *ret_problem);
static inline const struct iommufd_backend *iommufd_backend_of(const struct iommufd_ctx *ctx)
{
	return ((const struct iommufd_shim *)ctx->base.shim)->backend;
}

static inline const struct iommufd_sys *iommufd_sys_of(const struct iommufd_ctx *ctx)
{
	return &((const struct iommufd_shim *)ctx->base.shim)->sys;
}

/* sys.c: the real system; as iommufd_shim_new(). */
int iommufd_open_sys(const struct iommufd_options *options, struct iommufd_sys *ret_sys,
		     struct iommufd_problem *ret_problem);

/* call.c: one call each, 0 or -errno. */
int iommufd_call(struct iommufd_ctx *ctx, unsigned long request, void *arg);
int iommufd_destroy(struct iommufd_ctx *ctx, uint32_t id);
int iommufd_unmap(struct iommufd_ctx *ctx, uint32_t ioas, uint64_t iova, uint64_t length,
		  uint64_t *ret_unmapped);
/*
 * Commands in the hardware's layout (type) for a table or vIOMMU, n of them, at least 1;
 * *ret_done is always set.
 */
int iommufd_invalidate(struct iommufd_ctx *ctx, uint32_t object, uint32_t type,
		       const void *commands, size_t size, size_t n, size_t *ret_done);
/* Empties the table; made again until it is done, or IOMMUFD_TRIES times. */
int iommufd_unmap_all(struct iommufd_ctx *ctx, uint32_t ioas);

/* debt.c */
/* Gives a list of devices or a context back, or notes what is owed; takes the debts over. */
void iommufd_give_back(struct iommufd_shim *shim, struct iommufd_debt *debts);
void iommufd_pay_debts(struct iommufd_shim *shim);
void iommufd_forget_debts(struct iommufd_shim *shim);

/* context.c */
int iommufd_ctx_new(struct shim *shim, const char *owner, char *ret_reason,
		    struct shim_ctx **ret_ctx);
void iommufd_ctx_free(struct shim_ctx *ctx);

void iommufd_ctx_leave(struct shim_ctx *ctx);
/* Without a context of the keeper's. */
int iommufd_ctx_new_record(struct shim *shim, struct iommufd_ctx **ret_ctx);
void iommufd_ctx_free_record(struct iommufd_ctx *ctx);

/* delegate.c */
int iommufd_ctx_new_delegated(struct shim *shim, const char *owner, int holder, uid_t opener,
			      uint64_t bytes, char *ret_reason, struct shim_ctx **ret_ctx);
int iommufd_ctx_fd(struct shim_ctx *ctx, int *ret_fd);
int iommufd_holder_end(struct shim *shim, const char *owner, int holder, char *ret_reason);

/* device.c */
int iommufd_dev_bind(struct shim_ctx *ctx, const char *const *addresses, size_t n, char *ret_reason,
		     struct shim_dev **ret_devs);
void iommufd_dev_release(struct shim_dev *dev);
int iommufd_dev_is_free(struct shim *shim, const char *address);
int iommufd_dev_fd(struct shim_dev *dev, int *ret_fd);
/* Closes and frees what is detached, and puts what it owes the keeper before the list. */
void iommufd_dev_close(struct iommufd_dev *dev, struct iommufd_debt **debts);

/* A record of a device of the inventory, in no list yet. */
int iommufd_dev_new(struct iommufd_ctx *ctx, const struct iommufd_slot *slot,
		    struct iommufd_dev **ret_dev);
void iommufd_dev_free(struct iommufd_dev *dev);

/* hw_info.c: what the kernel says of a device's IOMMU against what sysfs said. */
int iommufd_hw_info_check(struct iommufd_dev *dev, char *ret_reason);

/* attach.c */
int iommufd_attach(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason);
int iommufd_replace(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason);
int iommufd_detach(struct shim_dev *dev, uint32_t pasid);
/* Ends all attachments of the device, whether the kernel likes it or not. */
void iommufd_detach_all(struct iommufd_dev *dev);
/*
 * Puts every device of the context where the record says it is; goes on after a failure, and
 * returns the first.
 */
int iommufd_reassert(struct iommufd_ctx *ctx);
/*
 * The table is another to the hardware than before (pt->epoch went up): moves everything that
 * is attached to it.  On failure the caller makes the table what it was, and all moves back.
 */
int iommufd_move_all(struct iommufd_pt *pt);
void iommufd_move_back(struct iommufd_pt *pt);
/* What a failed one says. */
int iommufd_attach_error(const struct iommufd_dev *dev, const struct iommufd_pt *pt, int r,
			 char *ret_reason);
/* The mappings that a device has that is attached to the table; 0: a tenant's table. */
static inline uint32_t iommufd_mappings_of(const struct iommufd_pt *pt)
{
	return pt->bound ? 0 : pt->ioas;
}
void iommufd_attach_save(struct shim_dev *dev, uint32_t pasid, struct shim_saved *ret_saved);
int iommufd_attach_restore(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt,
			   const struct shim_saved *saved);

/* hwpt.c */
/* Whether the device needs one, or may be attached to the IOAS itself. */
bool iommufd_hwpt_wanted(const struct iommufd_dev *dev, const struct iommufd_pt *pt);
int iommufd_hwpt_attach(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
			struct iommufd_hwpt **ret_hwpt);
/* Finds or makes what the device's IOMMU has as the parent of nested tables; the caller counts. */
int iommufd_hwpt_parent(struct iommufd_dev *dev, struct iommufd_pt *parent,
			struct iommufd_hwpt **ret_hwpt);
/* Ends it if nothing is attached.  If the kernel will not, it stays until the table ends. */
void iommufd_hwpt_settle(struct iommufd_pt *pt, struct iommufd_hwpt *hwpt);
/* Finds or makes the record of one that was saved. */
int iommufd_hwpt_restore(struct iommufd_pt *pt, const struct iommufd_dev *dev,
			 const struct iommufd_saved_hwpt *saved, struct iommufd_hwpt **ret_hwpt);
/* Takes it out of the record, and a parent's count with it. */
void iommufd_hwpt_remove(struct iommufd_pt *pt, struct iommufd_hwpt *hwpt);

/* memory.c */
int iommufd_mem_register(struct shim_ctx *ctx, int fd, uint64_t offset, uint64_t length,
			 uint32_t prot, struct shim_mem **ret_mem);
void iommufd_mem_unregister(struct shim_mem *mem);

/* pagetable.c */
int iommufd_pt_create(struct shim_ctx *ctx, const struct shim_pt_spec *spec, char *ret_reason,
		      struct shim_pt **ret_pt);
void iommufd_pt_destroy(struct shim_pt *pt);
/* Whether the device can use the table. */
int iommufd_pt_suits(const struct iommufd_pt *pt, const struct iommufd_dev *dev, char *ret_reason);
const struct shim_format_cap *iommufd_cap_of(const struct iommufd_slot *slot,
					     enum shim_format format);
/* Ends an object that nobody knows of; made again if it fails. */
void iommufd_destroy_surely(struct iommufd_ctx *ctx, uint32_t id);
/* Ends the kernel's objects of an empty table and frees ours. */
void iommufd_pt_end(struct iommufd_pt *pt);
/* Frees ours only. */
void iommufd_pt_free(struct iommufd_pt *pt);

/* user.c: tables that tenants write */
/* Of either hardware's: what can be a parent. */
int iommufd_user_check_parent(struct iommufd_ctx *ctx, const struct shim_pt_spec *spec,
			      char *ret_reason);
int iommufd_user_check(const struct shim_pt_spec *spec, char *ret_reason);
/* Whether the device can use it. */
int iommufd_user_suits(const struct iommufd_pt *pt, const struct iommufd_dev *dev,
		       char *ret_reason);
int iommufd_pt_bind_table(struct shim_pt *pt, const struct shim_table *table, char *ret_reason);

/* invalidate.c */
int iommufd_pt_invalidate(struct shim_pt *pt, const struct shim_invalidate *entries, size_t n,
			  size_t *ret_done);
int iommufd_pt_invalidate_native(struct shim_pt *pt, enum shim_native type, const void *entries,
				 size_t n, size_t *ret_done);

/* dirty.c: NULL dirty: nothing to do */
struct iommufd_dirty;
int iommufd_dirty_new(struct iommufd_dirty **ret_dirty);
void iommufd_dirty_free(struct iommufd_dirty *dirty);
/* Room for n more mappings, so that iommufd_dirty_map() cannot fail. */
int iommufd_dirty_reserve(struct iommufd_pt *pt, size_t n);
void iommufd_dirty_map(struct iommufd_pt *pt, uint64_t iova, uint64_t length);
void iommufd_dirty_unmap(struct iommufd_pt *pt, uint64_t iova, uint64_t length);
bool iommufd_dirty_is_tracked(const struct iommufd_pt *pt);
/* What was written to some of it is not known, and nobody has asked since. */
bool iommufd_dirty_is_unknown(const struct iommufd_pt *pt);
/* After a restart; unknown: so was some of what will be restored. */
void iommufd_dirty_set_tracked(struct iommufd_pt *pt, bool unknown);
/* Of one that was just made. */
int iommufd_dirty_track_hwpt(struct iommufd_ctx *ctx, uint32_t hwpt, bool enable);
int iommufd_pt_track_dirty(struct shim_pt *pt, bool enable, bool all_dirty);
int iommufd_pt_read_dirty(struct shim_pt *pt, uint64_t iova, uint64_t length,
			  unsigned int page_shift, bool clear, uint8_t *bitmap);

/* faults.c */
/* The context's queue is there afterwards. */
int iommufd_faults_open(struct iommufd_ctx *ctx);
void iommufd_faults_close(struct iommufd_ctx *ctx);
/* Ends the queue as well. */
void iommufd_faults_end(struct iommufd_ctx *ctx);
/* After a restart: a queue in the place of the one whose descriptor is lost. */
int iommufd_faults_renew(struct iommufd_ctx *ctx);
int iommufd_faults_read(struct iommufd_ctx *ctx, struct shim_report *reports, size_t n,
			size_t *ret_n);
int iommufd_ctx_answer(struct shim_ctx *ctx, uint64_t cookie, bool success);

/* vevents.c */
int iommufd_ctx_report_fd(struct shim_ctx *ctx);
int iommufd_ctx_read_reports(struct shim_ctx *ctx, struct shim_report *reports, size_t n,
			     size_t *ret_n);
/* The context has a descriptor for reports from now on. */
int iommufd_reports_open(struct iommufd_ctx *ctx);
/* Makes that descriptor readable when fd is. */
int iommufd_reports_watch(struct iommufd_ctx *ctx, int fd);

/* smmuv3_tables.c */
int iommufd_pt_bind_pasid_table(struct shim_pt *pt, const struct shim_pasid_table *table,
				char *ret_reason);

/* ids.c: every object that is recorded, in no order. */
typedef void (*iommufd_id_fn)(uint32_t id, void *data);
void iommufd_ids_each(const struct iommufd_ctx *ctx, iommufd_id_fn each, void *data);

/* map.c */
uint64_t iommufd_pt_table_bytes(struct shim_pt *pt);
uint64_t iommufd_pt_map_bound(struct shim_pt *pt, const struct shim_map *maps, size_t n);
int iommufd_pt_map(struct shim_pt *pt, const struct shim_map *maps, size_t n,
		   const struct shim_cancel *cancel);
int iommufd_pt_unmap(struct shim_pt *pt, const struct shim_unmap *unmaps, size_t n,
		     size_t *ret_done);
int iommufd_pt_restore_map(struct shim_pt *pt, const struct shim_map *maps, size_t n);
int iommufd_pt_undo_map(struct shim_pt *pt, const struct shim_unmap *ranges, size_t n);

/* saved.c: the bytes of struct shim_saved.  -EINVAL: not what was saved. */
void iommufd_save_context(const struct iommufd_ctx *ctx, struct shim_saved *ret_saved);
void iommufd_save_device(const struct iommufd_dev *dev, struct shim_saved *ret_saved);
void iommufd_save_table(const struct iommufd_pt *pt, struct shim_saved *ret_saved);
void iommufd_save_smmuv3_table(const struct iommufd_pt *pt, struct shim_saved *ret_saved);
void iommufd_save_attachment(const struct iommufd_hwpt *hwpt, struct shim_saved *ret_saved);
int iommufd_load_context(const struct shim_saved *saved, struct keeper_context_id *ret_id,
			 bool *ret_delegated);
int iommufd_load_device(const struct shim_saved *saved, struct iommufd_dev *ret_dev);
/* ret_dirty: it was made for dirty tracking; ret_tracked: that is on; ret_unknown: see above. */
int iommufd_load_table(const struct shim_saved *saved, struct iommufd_pt *ret_pt, bool *ret_dirty,
		       bool *ret_tracked, bool *ret_unknown);
int iommufd_load_smmuv3_table(const struct shim_saved *saved, struct iommufd_pt *ret_pt);
int iommufd_load_attachment(const struct shim_saved *saved, struct iommufd_saved_hwpt *ret_hwpt);

/* restore.c */
void iommufd_ctx_save(struct shim_ctx *ctx, struct shim_saved *ret_saved);
void iommufd_dev_save(struct shim_dev *dev, struct shim_saved *ret_saved);
void iommufd_pt_save(struct shim_pt *pt, struct shim_saved *ret_saved);
int iommufd_ctx_restore(struct shim *shim, const char *owner, const struct shim_saved *saved,
			struct shim_ctx **ret_ctx);
int iommufd_dev_restore(struct shim_ctx *ctx, const char *address, const struct shim_saved *saved,
			struct shim_dev **ret_dev);
int iommufd_pt_restore(struct shim_ctx *ctx, const struct shim_pt_spec *spec,
		       const struct shim_saved *saved, struct shim_pt **ret_pt);

/* strays.c */
/* Detaches and gives back what is claimed for the context and not recorded. */
int iommufd_end_claims(struct iommufd_ctx *ctx, size_t *ended);
int iommufd_ctx_restored(struct shim_ctx *ctx, size_t *ret_strays);

/* sweep.c */
int iommufd_sweep(struct shim *shim, const struct shim_saved *known, size_t n, size_t *ret_ended);
/* Of a context of which not everything is known: memory first, and objects when it is empty. */
void iommufd_sweep_memory(struct iommufd_ctx *ctx);
void iommufd_sweep_objects(struct iommufd_ctx *ctx);

#endif
