/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SHIM_H
#define IOASID_SHIM_H

/*
 * The contract between the broker and whatever drives the IOMMU: Linux iommufd, VFIO
 * type1, or the software IOMMU.  It is cut to a real kernel's abilities.
 *
 * Objects.  A shim_ctx is one protection domain (one iommufd context); the broker makes
 * one for each lease.  Inside it live bound devices (shim_dev), registered memory
 * (shim_mem) and page tables (shim_pt).  Nothing is shared between contexts.  The broker
 * knows every object it made: the contract has no listing of objects, as iommufd has none.
 * The only list is the host's inventory of devices.
 *
 * Errors.  0 is success; a negative errno is unexpected and forwarded; a positive SHIM_E_*
 * is documented and handled by the caller.  Out-parameters are untouched on failure.  An
 * operation that failed has changed nothing, save where it reports how much was done.
 *
 * Threads.  Calls on one context are never made from two threads at once, with one
 * exception: shim_dma() may run on any thread beside any other call of its context, but
 * never beside shim_dev_release() of its own device or shim_ctx_free().  Calls on
 * different contexts may run at once; what contexts share, the shim locks.  Calls marked
 * [blocking] may take long (pins, resets, the keeper).  A shim that says so (ops->blocks)
 * gets them on a worker always; another one when the amount of work asks for it.  All other
 * calls return within microseconds and never sleep on a tenant's behalf.
 *
 * Order.  shim_pt_unmap(), shim_detach(), shim_replace(), shim_dev_release() and
 * shim_ctx_free() return only after IOTLBs, the paging-structure cache and every nested
 * child's combined entries are flushed and DMA that was translated before is over.  A kernel
 * may give a group one table: there a detached or released device still goes through it until
 * the last of its group, which the same context has, is detached too.
 *
 * Ownership.  The caller destroys what it made, leaf first: attachments, children,
 * page tables, memory, devices, context.  shim_ctx_free() does all of it at once, in that
 * order, for whatever is left.
 *
 * Restart.  Where a shim says so (shim_restores()), its objects live in the kernel and with the
 * keeper, and outlive the broker, DMA included.  The caller keeps of each a struct shim_saved,
 * and what it asked for.  After a restart, for each context, in this order:
 *
 *	ctx_restore; dev_restore, mem_register, pt_restore; pt_restore_map; attach_restore:
 *		the record of the finished calls.  Nothing changes in the kernel.
 *	then what was cut short, at most one call a context, is undone or redone.  Undone:
 *		pt_undo_map() for a map; detach() for an attach, which need not be recorded;
 *		nothing, or a replace() back; nothing for pt_create() and dev_bind().  Redone, by
 *		the same call again: pt_unmap(), detach(), pt_destroy(), dev_release(),
 *		ctx_free().  They all accept that the kernel has done it already, in part or as a
 *		whole.  Instead of pt_unmap(): pt_undo_map() of what was not restored.
 *	ctx_restored: what is there and was not restored ends, and each device is put where its
 *		record says.  A device that is there already notices nothing.
 *
 * A shim that failed in between is asked again, or its context ended.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shim_error {
	/* The object or the hardware cannot do this; see the reason buffer where there is one. */
	SHIM_E_UNSUPPORTED = 1,
	/* No such device in the inventory. */
	SHIM_E_NO_DEVICE,
	/* The device is bound by another context, or still revoking. */
	SHIM_E_DEVICE_BUSY,
	/* (device, PASID) is already attached. */
	SHIM_E_ATTACHED,
	/* (device, PASID) is not attached. */
	SHIM_E_NOT_ATTACHED,
	/* The page table is attached or has children. */
	SHIM_E_IN_USE,
	/* A mapping is in the way. */
	SHIM_E_OVERLAP,
	/* No whole mapping there, or one would be split. */
	SHIM_E_NO_MAPPING,
	/* Address or length out of the format's width, misaligned, or reserved. */
	SHIM_E_RANGE,
	/* The device's IOMMU cannot use this page table. */
	SHIM_E_INCOMPATIBLE,
	/* The memory cannot be used (the fd's type, access mode). */
	SHIM_E_MEMORY,
	/* The device may not be had; the reason buffer says why (host use, group, limit). */
	SHIM_E_REFUSED,
	/* Out of something that the shim bounds for the owner; the reason buffer says what. */
	SHIM_E_LIMIT,
	/* Of what was saved nothing is left. */
	SHIM_E_GONE,
};

/* Page-table formats: the numbers of ioasid.v1.PageTableFormat. */
enum shim_format {
	SHIM_FORMAT_NONE = 0,
	SHIM_FORMAT_X86_64_4L = 1,
	SHIM_FORMAT_X86_64_5L = 2,
	SHIM_FORMAT_VTDSS_3L = 3,
	SHIM_FORMAT_VTDSS_4L = 4,
	SHIM_FORMAT_VTDSS_5L = 5,
	SHIM_FORMAT_EPT_4L = 6,
	SHIM_FORMAT_EPT_5L = 7,
	SHIM_FORMAT_AMDV1_1L = 8,
	SHIM_FORMAT_AMDV1_2L = 9,
	SHIM_FORMAT_AMDV1_3L = 10,
	SHIM_FORMAT_AMDV1_4L = 11,
	SHIM_FORMAT_AMDV1_5L = 12,
	SHIM_FORMAT_AMDV1_6L = 13,
	SHIM_FORMAT_ARMV8_S1_4K = 14,
	SHIM_FORMAT_ARMV8_S1_16K = 15,
	SHIM_FORMAT_ARMV8_S1_64K = 16,
	SHIM_FORMAT_ARMV8_S2_4K = 17,
	SHIM_FORMAT_ARMV8_S2_16K = 18,
	SHIM_FORMAT_ARMV8_S2_64K = 19,
	SHIM_FORMAT_SV39 = 20,
	SHIM_FORMAT_SV48 = 21,
	SHIM_FORMAT_SV57 = 22,
	SHIM_FORMAT_SV39X4 = 23,
	SHIM_FORMAT_SV48X4 = 24,
	SHIM_FORMAT_SV57X4 = 25,
	SHIM_FORMAT_KERNEL_CHOSEN = 26,
	_SHIM_FORMAT_MAX,
};

/* Kinds of IOASID: the numbers of ioasid.v1.IoasidKind. */
enum shim_kind {
	SHIM_KIND_KERNEL = 1,
	SHIM_KIND_USER = 2,
	SHIM_KIND_PROCESS = 3,
	SHIM_KIND_KVM = 4,
	_SHIM_KIND_MAX,
};

/* Access and permission bits. */
#define SHIM_READ  (1u << 0)
#define SHIM_WRITE (1u << 1)
#define SHIM_EXEC  (1u << 2)

/* DMA without a PASID. */
#define SHIM_NO_PASID UINT32_MAX

/* ---- what the host has ---- */

struct shim_range {
	uint64_t start;
	uint64_t last; /* inclusive */
	char use[16];  /* "msi", "direct", "firmware" */
};

struct shim_format_cap {
	enum shim_format format;
	uint8_t input_bits;
	uint8_t output_bits;
	uint64_t page_sizes; /* bit n: pages of 2^n bytes */
	bool access_dirty;
	bool execute;
	bool nest_child;
	bool nest_parent;
};

#define SHIM_FORMATS_MAX  32
#define SHIM_RESERVED_MAX 16
#define SHIM_NAME_MAX	  32
#define SHIM_REASON_MAX	  160

/* What may be absent beside the kinds, each with its reason. */
enum shim_feature {
	SHIM_FEATURE_PASID,
	SHIM_FEATURE_FAULTS,
	SHIM_FEATURE_DIRTY,
	SHIM_FEATURE_NESTING,
	SHIM_FEATURE_SNOOP,
	SHIM_FEATURE_DEVICE_FD,
	_SHIM_FEATURE_MAX,
};

struct shim_caps {
	struct shim_format_cap formats[SHIM_FORMATS_MAX];
	size_t n_formats;
	struct shim_range reserved[SHIM_RESERVED_MAX];
	size_t n_reserved;
	uint8_t pasid_bits; /* 0: none */
	uint8_t max_depth;  /* 1: no nesting */
	bool recoverable_faults;
	bool dirty_tracking;
	bool snoop_control;
	bool device_tlb;
	uint32_t invalidations; /* bit n: granularity n of ioasid.v1.InvalidateGranularity */
	/* Empty string: the kind is supported; else why not.  Indexed by shim_kind. */
	char kind_absent[_SHIM_KIND_MAX][SHIM_REASON_MAX];
	/* The same of what the fields above say is not there; empty where nothing is known. */
	char feature_absent[_SHIM_FEATURE_MAX][SHIM_REASON_MAX];
};

struct shim_device_info {
	char address[SHIM_NAME_MAX]; /* "0000:3b:00.0" */
	char iommu[SHIM_NAME_MAX];
	char driver[SHIM_NAME_MAX]; /* the host's, when the shim started; "": none, simulated */
	uint16_t vendor;
	uint16_t device;
	uint32_t class_code; /* 24 bits */
	uint32_t group;
	int32_t numa_node; /* -1: unknown */
	/* Not empty: the host uses it; says for what. */
	char host_use[SHIM_REASON_MAX];
	struct shim_caps caps;
};

/* ---- objects ---- */

struct shim;
struct shim_ctx;
struct shim_dev;
struct shim_mem;
struct shim_pt;

struct shim_pt_spec {
	enum shim_kind kind;
	enum shim_format format;
	uint8_t input_bits; /* <= the format's width; 0: the format's own */
	bool enforce_snoop;
	bool dirty_tracking;
	bool faults;
	struct shim_pt *parent; /* same context, or NULL */
	/* Devices that will be attached (a kernel wants to know at creation); borrowed. */
	struct shim_dev *const *devices;
	size_t n_devices;
};

struct shim_map {
	uint64_t iova;
	uint64_t length;
	/* Root tables: mem and offset.  Children of kind KERNEL: mem NULL, parent_address. */
	struct shim_mem *mem;
	uint64_t offset;
	uint64_t parent_address;
	uint32_t prot; /* SHIM_READ | SHIM_WRITE | SHIM_EXEC, not 0 */
};

/* Set by the caller while a map runs, on any thread: give up between two chunks. */
struct shim_cancel {
	_Atomic bool requested;
};

/* The broker names whole mappings: exactly an iova and length that it mapped. */
struct shim_unmap {
	uint64_t iova;
	uint64_t length;
};

enum shim_invalidate_scope {
	SHIM_INVALIDATE_ALL = 1,
	SHIM_INVALIDATE_RANGE = 2,
	SHIM_INVALIDATE_PASID = 3,
	SHIM_INVALIDATE_DEVICE_TLB = 4,
	SHIM_INVALIDATE_PASID_CACHE = 5,
};

struct shim_invalidate {
	enum shim_invalidate_scope scope;
	uint64_t iova;
	uint64_t length;
	bool leaf; /* only leaf entries changed: the paging-structure cache may stay */
	uint32_t pasid;
	struct shim_dev *dev; /* DEVICE_TLB; NULL: all */
};

/*
 * What a shim must know to find an object again after a restart of the broker.  Its bytes
 * mean something to this shim only, also to later releases of it.
 */
#define SHIM_SAVED_MAX 24
struct shim_saved {
	uint8_t n; /* 0: nothing */
	uint8_t bytes[SHIM_SAVED_MAX];
};

enum shim_fault_cause { /* the numbers of ioasid.v1.FaultCause */
			SHIM_FAULT_NONE = 0,
			SHIM_FAULT_NOT_PRESENT = 1,
			SHIM_FAULT_PERMISSION = 2,
			SHIM_FAULT_RESERVED_BITS = 3,
			SHIM_FAULT_NON_CANONICAL = 4,
			SHIM_FAULT_ADDRESS_WIDTH = 5,
			SHIM_FAULT_OUTPUT_WIDTH = 6,
			SHIM_FAULT_NOT_ATTACHED = 7,
			SHIM_FAULT_RESERVED_RANGE = 8,
			SHIM_FAULT_MEMORY_ERROR = 9,
			SHIM_FAULT_BAD_ENTRY = 10,
			SHIM_FAULT_PARENT_NOT_PRESENT = 11,
			SHIM_FAULT_PARENT_PERMISSION = 12,
};

struct shim_fault {
	enum shim_fault_cause cause; /* NONE: no fault */
	uint8_t stage;		     /* 1: own table, 2: parent's ... 0: no table */
	uint8_t level;		     /* 1: leaf level; 0: before any entry */
	uint32_t access;	     /* SHIM_READ, SHIM_WRITE or SHIM_EXEC */
	uint64_t address;
	uint64_t entry;
};

#define SHIM_WALK_MAX 64
struct shim_walk_level {
	uint8_t stage;
	uint8_t level;
	uint64_t input;
	uint64_t table;
	uint32_t index;
	uint64_t entry;
	char decoded[48]; /* "table", "page 4K RW", "not present" */
};
struct shim_walk {
	struct shim_walk_level levels[SHIM_WALK_MAX];
	size_t n_levels;
	struct shim_fault fault; /* cause NONE: translated */
	uint64_t output;
	uint64_t page_size;
	uint32_t prot;
	struct shim_mem *mem;
	uint64_t offset; /* in mem */
};

/* ---- operations ---- */

struct shim_ops {
	const char *name; /* "soft" */
	bool blocks;	  /* calls marked [blocking] may block however little they do */
	/*
	 * dev_bind finds out anew what the host uses and refuses it by itself; host_use in the
	 * inventory only tells how it was when the shim started.
	 */
	bool asks_host_use;

	/* Ends the shim.  Every context must be freed. */
	void (*free)(struct shim *shim);

	/*
	 * The host's inventory, fixed while the shim lives unless a device goes.  info is
	 * borrowed and valid as long as the shim.
	 */
	size_t (*device_count)(struct shim *shim);
	const struct shim_device_info *(*device_info)(struct shim *shim, size_t index);

	/*
	 * [blocking] A new, empty protection domain.  owner: the tenant's path, for limits and
	 * logs outside the broker; copied.  ret_reason: SHIM_REASON_MAX bytes.  LIMIT.
	 */
	int (*ctx_new)(struct shim *shim, const char *owner, char *ret_reason,
		       struct shim_ctx **ret_ctx);
	/* [blocking] Ends all DMA of its devices, then everything in it.  NULL-safe. */
	void (*ctx_free)(struct shim_ctx *ctx);

	/*
	 * [blocking] Binds devices to the context, all or none: a kernel wants the members of
	 * a group together.  They then reach no memory until they are attached.  Whether
	 * devices that the host uses may be had is for the caller to decide, unless
	 * asks_host_use says otherwise.  ret_devs: n of them.  NO_DEVICE, DEVICE_BUSY, REFUSED,
	 * LIMIT: ret_reason, SHIM_REASON_MAX bytes, says which device and why.  GONE: what
	 * devices are bound with has lost the context; ret_reason says how.
	 */
	int (*dev_bind)(struct shim_ctx *ctx, const char *const *addresses, size_t n,
			char *ret_reason, struct shim_dev **ret_devs);
	/*
	 * [blocking] Detaches everything, ends DMA, resets, gives the device back.  NULL-safe.
	 * Its DMA is over when this returns, whoever still holds an fd of it; whether it can
	 * be bound again says dev_is_free().
	 */
	void (*dev_release)(struct shim_dev *dev);
	/*
	 * [blocking] Optional (NULL: always).  0: the device can be bound.  DEVICE_BUSY: not
	 * yet, its last holder still has an fd of it; asked again from time to time.
	 */
	int (*dev_is_free)(struct shim *shim, const char *address);
	/*
	 * Optional (NULL: no device has one).  A new fd of the device for its tenant: for
	 * registers and interrupts.  With it the tenant reaches no object of another context.
	 */
	int (*dev_fd)(struct shim_dev *dev, int *ret_fd);

	/*
	 * [blocking] Makes [offset, offset + length) of fd mappable with at most prot.  The
	 * broker has checked type, access mode, seals and holes, and keeps fd open while the
	 * memory lives.  MEMORY.
	 */
	int (*mem_register)(struct shim_ctx *ctx, int fd, uint64_t offset, uint64_t length,
			    uint32_t prot, struct shim_mem **ret_mem);
	/* The memory is no longer mapped anywhere.  NULL-safe. */
	void (*mem_unregister)(struct shim_mem *mem);

	/*
	 * [blocking] UNSUPPORTED, INCOMPATIBLE (ret_reason, SHIM_REASON_MAX bytes, says what
	 * and who).
	 */
	int (*pt_create)(struct shim_ctx *ctx, const struct shim_pt_spec *spec, char *ret_reason,
			 struct shim_pt **ret_pt);
	/* [blocking] Not attached, no children; what is still mapped goes with it.  NULL-safe. */
	void (*pt_destroy)(struct shim_pt *pt);
	/* Bytes of host memory that its tables occupy, and the most that a map could add. */
	uint64_t (*pt_table_bytes)(struct shim_pt *pt);
	uint64_t (*pt_map_bound)(struct shim_pt *pt, const struct shim_map *maps, size_t n);

	/*
	 * [blocking] Maps all entries or none.  OVERLAP, RANGE, UNSUPPORTED; -ENOMEM;
	 * -ECANCELED when cancel (NULL: cannot be) was requested in time.
	 * The broker has checked overlap, alignment to the smallest page, bounds of the
	 * memory and reserved ranges; a shim reports what its kernel still refuses.
	 */
	int (*pt_map)(struct shim_pt *pt, const struct shim_map *maps, size_t n,
		      const struct shim_cancel *cancel);
	/*
	 * [blocking] Unmaps whole mappings in order; one flush at the end.  *ret_done is
	 * always set: how many were unmapped.  NO_MAPPING.
	 */
	int (*pt_unmap)(struct shim_pt *pt, const struct shim_unmap *unmaps, size_t n,
			size_t *ret_done);
	/* [blocking] In order; *ret_done is always set.  RANGE, UNSUPPORTED. */
	int (*pt_invalidate)(struct shim_pt *pt, const struct shim_invalidate *entries, size_t n,
			     size_t *ret_done);
	/*
	 * Optional (NULL: the tables are the kernel's and cannot be read).  What a device's
	 * access would meet, by the tables (not by the IOTLB).
	 */
	int (*pt_walk)(struct shim_pt *pt, uint64_t iova, uint32_t access, struct shim_walk *ret);

	/*
	 * The device and the table are of one context.  attach: ATTACHED, INCOMPATIBLE,
	 * UNSUPPORTED; replace is atomic: NOT_ATTACHED, INCOMPATIBLE, and on failure the old
	 * attachment stands.  detach: NOT_ATTACHED.  [blocking] all three.
	 */
	int (*attach)(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason);
	int (*replace)(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason);
	int (*detach)(struct shim_dev *dev, uint32_t pasid);

	/*
	 * [blocking] Optional (NULL where devices are real): the device reads len bytes at
	 * iova into buf, or writes them.  A blocked access is a fault, not an error: the call
	 * returns 0, *ret_done bytes moved, and fault->cause says why.
	 */
	int (*dma)(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
		   size_t len, size_t *ret_done, struct shim_fault *ret_fault);

	/*
	 * Restart: all of what follows, or nothing (NULL: objects end with the broker, and are
	 * made anew).
	 */

	/*
	 * What to keep of an object, from when it was made; no calls, always succeed.  An
	 * attachment's changes with each replace.  After a map that failed with an errno the
	 * table is to be saved anew.  Of what is not attached: nothing.
	 */
	void (*ctx_save)(struct shim_ctx *ctx, struct shim_saved *ret_saved);
	void (*dev_save)(struct shim_dev *dev, struct shim_saved *ret_saved);
	void (*pt_save)(struct shim_pt *pt, struct shim_saved *ret_saved);
	void (*attach_save)(struct shim_dev *dev, uint32_t pasid, struct shim_saved *ret_saved);

	/* [blocking] owner as in ctx_new().  GONE. */
	int (*ctx_restore)(struct shim *shim, const char *owner, const struct shim_saved *saved,
			   struct shim_ctx **ret_ctx);
	/*
	 * [blocking] GONE: it does not belong to the context any more.  NO_DEVICE: the host has
	 * lost it.
	 */
	int (*dev_restore)(struct shim_ctx *ctx, const char *address,
			   const struct shim_saved *saved, struct shim_dev **ret_dev);
	/* [blocking] spec: as the table was made, devices are not needed.  GONE. */
	int (*pt_restore)(struct shim_ctx *ctx, const struct shim_pt_spec *spec,
			  const struct shim_saved *saved, struct shim_pt **ret_pt);
	/* What is mapped.  All or none. */
	int (*pt_restore_map)(struct shim_pt *pt, const struct shim_map *maps, size_t n);
	/*
	 * Nothing saved: of an attach that was cut short; it is to be detached before
	 * ctx_restored().  ATTACHED.
	 */
	int (*attach_restore)(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt,
			      const struct shim_saved *saved);
	/*
	 * [blocking] Unmaps what of these ranges is mapped: of a map that was cut short, whose
	 * mappings were not restored.  That there is nothing is fine.
	 */
	int (*pt_undo_map)(struct shim_pt *pt, const struct shim_unmap *ranges, size_t n);
	/*
	 * [blocking] Everything that the context has was restored, and what was cut short is
	 * done with.  *ret_strays: how many objects and devices ended that were not.  On failure
	 * some of it may be done, and it can be called again.  Attachments are to be saved anew:
	 * what a replace had ended was made anew, and its old id may soon be another object's.
	 */
	int (*ctx_restored)(struct shim_ctx *ctx, size_t *ret_strays);

	/* The broker ends and the objects stay; frees what represents them here.  NULL-safe. */
	void (*ctx_leave)(struct shim_ctx *ctx);
	/*
	 * [blocking] Ends all contexts that earlier brokers left but the known ones: memory
	 * first, so that no DMA of their devices reaches any.  For the one broker of a host,
	 * before it makes any.
	 */
	int (*sweep)(struct shim *shim, const struct shim_saved *known, size_t n,
		     size_t *ret_ended);
};

/*
 * Every implementation's object begins with its base: struct shim with ops; the other
 * objects with a pointer to it, so that the wrappers below find the operations.
 */
struct shim {
	const struct shim_ops *ops;
};
struct shim_ctx {
	struct shim *shim;
};
struct shim_dev {
	struct shim *shim;
};
struct shim_mem {
	struct shim *shim;
};
struct shim_pt {
	struct shim *shim;
};

static inline void shim_free(struct shim *shim)
{
	if (shim)
		shim->ops->free(shim);
}
static inline size_t shim_device_count(struct shim *shim)
{
	return shim->ops->device_count(shim);
}
static inline const struct shim_device_info *shim_device_info(struct shim *shim, size_t i)
{
	return shim->ops->device_info(shim, i);
}
static inline int shim_ctx_new(struct shim *shim, const char *owner, char *ret_reason,
			       struct shim_ctx **ret_ctx)
{
	return shim->ops->ctx_new(shim, owner, ret_reason, ret_ctx);
}
static inline void shim_ctx_free(struct shim_ctx *ctx)
{
	if (ctx)
		ctx->shim->ops->ctx_free(ctx);
}
static inline int shim_dev_bind(struct shim_ctx *ctx, const char *const *addresses, size_t n,
				char *ret_reason, struct shim_dev **ret_devs)
{
	return ctx->shim->ops->dev_bind(ctx, addresses, n, ret_reason, ret_devs);
}
static inline void shim_dev_release(struct shim_dev *dev)
{
	if (dev)
		dev->shim->ops->dev_release(dev);
}
static inline int shim_dev_bind_one(struct shim_ctx *ctx, const char *address, char *ret_reason,
				    struct shim_dev **ret_dev)
{
	return shim_dev_bind(ctx, &address, 1, ret_reason, ret_dev);
}
static inline int shim_dev_is_free(struct shim *shim, const char *address)
{
	return shim->ops->dev_is_free ? shim->ops->dev_is_free(shim, address) : 0;
}
static inline int shim_dev_fd(struct shim_dev *dev, int *ret_fd)
{
	return dev->shim->ops->dev_fd ? dev->shim->ops->dev_fd(dev, ret_fd) : SHIM_E_UNSUPPORTED;
}
static inline int shim_mem_register(struct shim_ctx *ctx, int fd, uint64_t offset, uint64_t length,
				    uint32_t prot, struct shim_mem **ret_mem)
{
	return ctx->shim->ops->mem_register(ctx, fd, offset, length, prot, ret_mem);
}
static inline void shim_mem_unregister(struct shim_mem *mem)
{
	if (mem)
		mem->shim->ops->mem_unregister(mem);
}
static inline int shim_pt_create(struct shim_ctx *ctx, const struct shim_pt_spec *spec,
				 char *ret_reason, struct shim_pt **ret_pt)
{
	return ctx->shim->ops->pt_create(ctx, spec, ret_reason, ret_pt);
}
static inline void shim_pt_destroy(struct shim_pt *pt)
{
	if (pt)
		pt->shim->ops->pt_destroy(pt);
}
static inline uint64_t shim_pt_table_bytes(struct shim_pt *pt)
{
	return pt->shim->ops->pt_table_bytes(pt);
}
static inline uint64_t shim_pt_map_bound(struct shim_pt *pt, const struct shim_map *maps, size_t n)
{
	return pt->shim->ops->pt_map_bound(pt, maps, n);
}
static inline int shim_pt_map(struct shim_pt *pt, const struct shim_map *maps, size_t n,
			      const struct shim_cancel *cancel)
{
	return pt->shim->ops->pt_map(pt, maps, n, cancel);
}
static inline int shim_pt_unmap(struct shim_pt *pt, const struct shim_unmap *unmaps, size_t n,
				size_t *ret_done)
{
	return pt->shim->ops->pt_unmap(pt, unmaps, n, ret_done);
}
static inline int shim_pt_invalidate(struct shim_pt *pt, const struct shim_invalidate *entries,
				     size_t n, size_t *ret_done)
{
	return pt->shim->ops->pt_invalidate(pt, entries, n, ret_done);
}
static inline int shim_pt_walk(struct shim_pt *pt, uint64_t iova, uint32_t access,
			       struct shim_walk *ret)
{
	return pt->shim->ops->pt_walk ? pt->shim->ops->pt_walk(pt, iova, access, ret)
				      : SHIM_E_UNSUPPORTED;
}
static inline int shim_attach(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt,
			      char *ret_reason)
{
	return dev->shim->ops->attach(dev, pasid, pt, ret_reason);
}
static inline int shim_replace(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt,
			       char *ret_reason)
{
	return dev->shim->ops->replace(dev, pasid, pt, ret_reason);
}
static inline int shim_detach(struct shim_dev *dev, uint32_t pasid)
{
	return dev->shim->ops->detach(dev, pasid);
}
static inline int shim_dma(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova,
			   void *buf, size_t len, size_t *ret_done, struct shim_fault *ret_fault)
{
	if (!dev->shim->ops->dma)
		return SHIM_E_UNSUPPORTED;
	return dev->shim->ops->dma(dev, pasid, access, iova, buf, len, ret_done, ret_fault);
}

/* ---- restart ---- */

/* Whether objects outlive the broker. */
static inline bool shim_restores(const struct shim *shim)
{
	return shim->ops->ctx_restore;
}
static inline void shim_ctx_save(struct shim_ctx *ctx, struct shim_saved *ret_saved)
{
	*ret_saved = (struct shim_saved){0};
	if (ctx->shim->ops->ctx_save)
		ctx->shim->ops->ctx_save(ctx, ret_saved);
}
static inline void shim_dev_save(struct shim_dev *dev, struct shim_saved *ret_saved)
{
	*ret_saved = (struct shim_saved){0};
	if (dev->shim->ops->dev_save)
		dev->shim->ops->dev_save(dev, ret_saved);
}
static inline void shim_pt_save(struct shim_pt *pt, struct shim_saved *ret_saved)
{
	*ret_saved = (struct shim_saved){0};
	if (pt->shim->ops->pt_save)
		pt->shim->ops->pt_save(pt, ret_saved);
}
static inline void shim_attach_save(struct shim_dev *dev, uint32_t pasid,
				    struct shim_saved *ret_saved)
{
	*ret_saved = (struct shim_saved){0};
	if (dev->shim->ops->attach_save)
		dev->shim->ops->attach_save(dev, pasid, ret_saved);
}
static inline int shim_ctx_restore(struct shim *shim, const char *owner,
				   const struct shim_saved *saved, struct shim_ctx **ret_ctx)
{
	return shim->ops->ctx_restore ? shim->ops->ctx_restore(shim, owner, saved, ret_ctx)
				      : SHIM_E_GONE;
}
static inline int shim_dev_restore(struct shim_ctx *ctx, const char *address,
				   const struct shim_saved *saved, struct shim_dev **ret_dev)
{
	return ctx->shim->ops->dev_restore
		       ? ctx->shim->ops->dev_restore(ctx, address, saved, ret_dev)
		       : SHIM_E_GONE;
}
static inline int shim_pt_restore(struct shim_ctx *ctx, const struct shim_pt_spec *spec,
				  const struct shim_saved *saved, struct shim_pt **ret_pt)
{
	return ctx->shim->ops->pt_restore ? ctx->shim->ops->pt_restore(ctx, spec, saved, ret_pt)
					  : SHIM_E_GONE;
}
static inline int shim_pt_restore_map(struct shim_pt *pt, const struct shim_map *maps, size_t n)
{
	return pt->shim->ops->pt_restore_map ? pt->shim->ops->pt_restore_map(pt, maps, n)
					     : SHIM_E_UNSUPPORTED;
}
static inline int shim_attach_restore(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt,
				      const struct shim_saved *saved)
{
	return dev->shim->ops->attach_restore
		       ? dev->shim->ops->attach_restore(dev, pasid, pt, saved)
		       : SHIM_E_UNSUPPORTED;
}
static inline int shim_pt_undo_map(struct shim_pt *pt, const struct shim_unmap *ranges, size_t n)
{
	return pt->shim->ops->pt_undo_map ? pt->shim->ops->pt_undo_map(pt, ranges, n)
					  : SHIM_E_UNSUPPORTED;
}
static inline int shim_ctx_restored(struct shim_ctx *ctx, size_t *ret_strays)
{
	return ctx->shim->ops->ctx_restored ? ctx->shim->ops->ctx_restored(ctx, ret_strays)
					    : SHIM_E_UNSUPPORTED;
}
static inline void shim_ctx_leave(struct shim_ctx *ctx)
{
	if (ctx && ctx->shim->ops->ctx_leave)
		ctx->shim->ops->ctx_leave(ctx);
	else
		shim_ctx_free(ctx);
}
static inline int shim_sweep(struct shim *shim, const struct shim_saved *known, size_t n,
			     size_t *ret_ended)
{
	if (shim->ops->sweep)
		return shim->ops->sweep(shim, known, n, ret_ended);
	*ret_ended = 0;
	return 0;
}

#endif
