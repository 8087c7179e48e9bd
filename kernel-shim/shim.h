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
#include <sys/types.h>

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
	/* The address space is a process's: the caller carries the access there. */
	SHIM_E_PROCESS,
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
	bool tenant_only; /* only tables that a tenant writes have this format (kind USER) */
	bool nest_child;
	bool nest_parent;
	/* Of a child: bit n: its parent may have format n; 0: any that is a nest_parent. */
	uint32_t nest_on;
	/* Kind USER: the narrowest table, and every width up to input_bits; 0: input_bits only. */
	uint8_t table_bits_least;
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
	uint32_t invalidations;	       /* bit n: granularity n of ioasid.v1.InvalidateGranularity */
	uint32_t native_invalidations; /* bit n: ioasid.v1.NativeInvalidation n */
	uint32_t pasid_tables;	       /* bit n: ioasid.v1.PasidTableFormat n can be bound */
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
struct shim_vm;

/* How a table that the tenant wrote is read: VT-d first stage (PASID entry: SRE, WPE, EAFE). */
#define SHIM_TABLE_SUPERVISOR	   (1u << 0)
#define SHIM_TABLE_WRITE_PROTECT   (1u << 1)
#define SHIM_TABLE_EXTENDED_ACCESS (1u << 2)

/* A table that the tenant wrote.  Its format is its IOASID's. */
struct shim_table {
	uint64_t root; /* address in the parent */
	uint32_t flags;
};

enum shim_pasid_format { /* the numbers of ioasid.v1.PasidTableFormat */
			 SHIM_PASID_VTD = 1,
			 SHIM_PASID_AMD_GCR3 = 2,
			 SHIM_PASID_SMMUV3_CD = 3,
			 SHIM_PASID_RISCV_PDT = 4,
			 _SHIM_PASID_FORMAT_MAX,
};

/* A PASID table that the tenant wrote: it stands for all of a device's PASIDs. */
struct shim_pasid_table {
	enum shim_pasid_format format;
	uint64_t root; /* address in the parent */
	uint8_t pasid_bits;
	uint32_t shape; /* SMMUv3 S1Fmt, AMD GLX, RISC-V PD mode */
};

struct shim_pt_spec {
	enum shim_kind kind;
	enum shim_format format;
	/* <= the format's width; 0: the format's own.  Kind USER: what the table has, exactly. */
	uint8_t input_bits;
	bool enforce_snoop;
	bool dirty_tracking;
	bool faults;
	struct shim_pt *parent;		/* same context, or NULL */
	const struct shim_table *table; /* kind USER; NULL: nothing is bound yet */
	struct shim_vm *vm;		/* kind KVM: same context */
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
	bool leaf;	/* only leaf entries changed: the paging-structure cache may stay */
	uint32_t pasid; /* as at attach(); of a table with a PASID table bound: an entry of that */
	/* PASID: what an entry for it is in the PASID tables of devices that this is attached to.
	 */
	uint32_t table_pasid;
	struct shim_dev *dev; /* DEVICE_TLB; NULL: all */
};

enum shim_native {			   /* the numbers of ioasid.v1.NativeInvalidation */
		   SHIM_NATIVE_VTD_S1 = 1, /* struct iommu_hwpt_vtd_s1_invalidate, 24 bytes */
		   SHIM_NATIVE_SMMUV3 = 2, /* le64 cmd[2], 16 bytes */
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
			SHIM_FAULT_ACCESS_FLAG = 13,
};

struct shim_fault {
	enum shim_fault_cause cause; /* NONE: no fault */
	uint8_t stage;		     /* 1: own table, 2: parent's ... 0: no table */
	uint8_t level;		     /* 1: leaf level; 0: before any entry */
	uint32_t access;	     /* SHIM_READ, SHIM_WRITE or SHIM_EXEC */
	uint64_t address;
	uint64_t entry;
	/*
	 * Of a simulated device: it can ask for the page (PRI), its table was made with faults,
	 * and another table entry would cure it.  The access may go on after an answer.
	 */
	bool recoverable;
};

/* What a kernel's devices report: page requests, and accesses that were blocked. */
struct shim_report {
	struct shim_dev *dev;
	uint32_t pasid; /* SHIM_NO_PASID: without */
	/* Not 0: a page request, of which the last of its group is answered by this number. */
	uint64_t cookie;
	uint32_t group;
	bool last;
	uint64_t lost; /* reports that the kernel dropped just before this one */
	/* cause NONE: the kernel does not say. */
	struct shim_fault fault;
};

/* Pages of a tenant's tables that one look for dirty bits goes into: it ends, whatever is there. */
#define SHIM_DIRTY_TABLES_MAX 16384

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
	/* The address in the outermost table's space that it came to; of a walk that is deep,
	 * levels does not tell. */
	uint64_t root_address;
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
	 * Delegation; optional, all or none (NULL: no context can be given away).  [blocking] As
	 * ctx_new(), but for a process outside, which makes the objects of the context by itself:
	 * nothing is made here, and devices that are bound to it are claimed for it and left
	 * to that process to bind.  holder: its pidfd; it may pin so many bytes, not 0.  opener:
	 * the uid that named it.  REFUSED: nobody may end such a process, or opener could not end
	 * it; GONE: it has ended; UNSUPPORTED.
	 */
	int (*ctx_new_delegated)(struct shim *shim, const char *owner, int holder, uid_t opener,
				 uint64_t bytes, char *ret_reason, struct shim_ctx **ret_ctx);
	/* A new fd of such a context.  UNSUPPORTED: it is another. */
	int (*ctx_fd)(struct shim_ctx *ctx, int *ret_fd);
	/*
	 * [blocking] Ends such a process, before its context is freed, and waits for that; 0 also
	 * if it has ended by itself.  owner as in ctx_new_delegated().  While somebody else still
	 * has a device of that context open, DMA into its memory may go on after ctx_free():
	 * until dev_is_free().  REFUSED, UNSUPPORTED.
	 */
	int (*holder_end)(struct shim *shim, const char *owner, int holder, char *ret_reason);

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
	 * [blocking] Optional.  The same for an array in an architecture's own layout; n entries
	 * of it.  -EINVAL: an entry that means nothing there.
	 */
	int (*pt_invalidate_native)(struct shim_pt *pt, enum shim_native type, const void *entries,
				    size_t n, size_t *ret_done);

	/*
	 * Kind USER; optional (NULL: no such kind).  [blocking] Binds a table, in the place of
	 * one that is bound; NULL: unbinds it, and everything is not present.  Returns when DMA
	 * through the old one is over and what was cached of it is gone.  The tables are read
	 * through the parent when a device needs them: that nothing is there yet is not an
	 * error.  RANGE: root is misaligned or outside of the parent; UNSUPPORTED: a flag.  On
	 * failure the old one stays bound.
	 */
	int (*pt_bind_table)(struct shim_pt *pt, const struct shim_table *table, char *ret_reason);
	/* The same for a PASID table; a table is then no longer bound, and the other way round. */
	int (*pt_bind_pasid_table)(struct shim_pt *pt, const struct shim_pasid_table *table,
				   char *ret_reason);

	/*
	 * Dirty tracking; optional (NULL: none).  [blocking] Of tables made with dirty_tracking.
	 * Switched on, everything is clean; or, all_dirty, everything that is mapped is dirty once:
	 * what was written before is not known.  LIMIT: a table that a tenant wrote has more than
	 * SHIM_DIRTY_TABLES_MAX pages; then it is off.
	 */
	int (*pt_track_dirty)(struct shim_pt *pt, bool enable, bool all_dirty);
	/*
	 * [blocking] Sets bit n of bitmap (byte n / 8, least significant first) when something in
	 * the n-th piece of 1 << page_shift bytes from iova was written; other bits stay as they
	 * are.  A large page that is dirty is dirty as a whole.  clear: they are clean from now
	 * on; a write that is not in the bitmap will be in the next one.  RANGE; LIMIT: a table
	 * that a tenant wrote has more than SHIM_DIRTY_TABLES_MAX pages for this range.  Then
	 * some of it may have been cleaned: those bits are in the bitmap.
	 */
	int (*pt_read_dirty)(struct shim_pt *pt, uint64_t iova, uint64_t length,
			     unsigned int page_shift, bool clear, uint8_t *bitmap);

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
	 * returns 0, *ret_done bytes moved, and fault->cause says why.  PROCESS: the table is of
	 * that kind, and the access is for the process itself to make.
	 */
	int (*dma)(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
		   size_t len, size_t *ret_done, struct shim_fault *ret_fault);

	/*
	 * Kind KVM; optional, all or none (NULL: no such kind).  A VM's memory: slots from
	 * guest-physical addresses to registered memory, by KVM's rules.  Its tables are those
	 * of kind KVM; they are filled from the slots when a device first needs a page.
	 */
	int (*vm_create)(struct shim_ctx *ctx, struct shim_vm **ret_vm);
	/* No table of it is left.  NULL-safe. */
	void (*vm_destroy)(struct shim_vm *vm);
	/*
	 * length 0: deletes the slot; returns when no DMA goes through it any more.  Else a new
	 * slot or, for one that exists, other flags or another address (as KVM does, a change
	 * of its memory or its length is refused).  prot: SHIM_READ, or with SHIM_WRITE.
	 * OVERLAP; RANGE; NO_MAPPING: deletes what is not there.
	 */
	int (*vm_set_slot)(struct shim_vm *vm, uint32_t slot, uint64_t address, uint64_t length,
			   struct shim_mem *mem, uint64_t offset, uint32_t prot);
	/*
	 * The most bytes of host memory that tables can come to for such a slot; they are the
	 * VM's, and no table's pt_table_bytes() counts them.
	 */
	uint64_t (*vm_slot_bound)(struct shim_vm *vm, uint64_t address, uint64_t length,
				  struct shim_mem *mem, uint64_t offset);

	/*
	 * Reports of a kernel; optional, all or none (NULL: a simulated device's access says it
	 * by itself).  An fd that is readable when there are some; -1: this context has none
	 * yet; it is asked again after each pt_create().  Borrowed.
	 */
	int (*ctx_report_fd)(struct shim_ctx *ctx);
	/* Takes up to n; *ret_n 0: there is none. */
	int (*ctx_read_reports)(struct shim_ctx *ctx, struct shim_report *reports, size_t n,
				size_t *ret_n);
	/* Answers a page request group.  -ENOENT: it has been answered, or its device is gone. */
	int (*ctx_answer)(struct shim_ctx *ctx, uint64_t cookie, bool success);

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
struct shim_vm {
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
static inline bool shim_delegates(const struct shim *shim)
{
	return shim->ops->ctx_new_delegated;
}
static inline int shim_ctx_new_delegated(struct shim *shim, const char *owner, int holder,
					 uid_t opener, uint64_t bytes, char *ret_reason,
					 struct shim_ctx **ret_ctx)
{
	return shim_delegates(shim) ? shim->ops->ctx_new_delegated(shim, owner, holder, opener,
								   bytes, ret_reason, ret_ctx)
				    : SHIM_E_UNSUPPORTED;
}
static inline int shim_ctx_fd(struct shim_ctx *ctx, int *ret_fd)
{
	return ctx->shim->ops->ctx_fd ? ctx->shim->ops->ctx_fd(ctx, ret_fd) : SHIM_E_UNSUPPORTED;
}
static inline int shim_holder_end(struct shim *shim, const char *owner, int holder,
				  char *ret_reason)
{
	return shim->ops->holder_end ? shim->ops->holder_end(shim, owner, holder, ret_reason)
				     : SHIM_E_UNSUPPORTED;
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
static inline int shim_pt_invalidate_native(struct shim_pt *pt, enum shim_native type,
					    const void *entries, size_t n, size_t *ret_done)
{
	if (pt->shim->ops->pt_invalidate_native)
		return pt->shim->ops->pt_invalidate_native(pt, type, entries, n, ret_done);
	*ret_done = 0;
	return SHIM_E_UNSUPPORTED;
}
static inline int shim_pt_bind_table(struct shim_pt *pt, const struct shim_table *table,
				     char *ret_reason)
{
	return pt->shim->ops->pt_bind_table ? pt->shim->ops->pt_bind_table(pt, table, ret_reason)
					    : SHIM_E_UNSUPPORTED;
}
static inline int shim_pt_bind_pasid_table(struct shim_pt *pt, const struct shim_pasid_table *table,
					   char *ret_reason)
{
	return pt->shim->ops->pt_bind_pasid_table
		       ? pt->shim->ops->pt_bind_pasid_table(pt, table, ret_reason)
		       : SHIM_E_UNSUPPORTED;
}
static inline int shim_pt_track_dirty(struct shim_pt *pt, bool enable, bool all_dirty)
{
	return pt->shim->ops->pt_track_dirty ? pt->shim->ops->pt_track_dirty(pt, enable, all_dirty)
					     : SHIM_E_UNSUPPORTED;
}
static inline int shim_pt_read_dirty(struct shim_pt *pt, uint64_t iova, uint64_t length,
				     unsigned int page_shift, bool clear, uint8_t *bitmap)
{
	return pt->shim->ops->pt_read_dirty
		       ? pt->shim->ops->pt_read_dirty(pt, iova, length, page_shift, clear, bitmap)
		       : SHIM_E_UNSUPPORTED;
}
static inline int shim_vm_create(struct shim_ctx *ctx, struct shim_vm **ret_vm)
{
	return ctx->shim->ops->vm_create ? ctx->shim->ops->vm_create(ctx, ret_vm)
					 : SHIM_E_UNSUPPORTED;
}
static inline void shim_vm_destroy(struct shim_vm *vm)
{
	if (vm)
		vm->shim->ops->vm_destroy(vm);
}
static inline int shim_vm_set_slot(struct shim_vm *vm, uint32_t slot, uint64_t address,
				   uint64_t length, struct shim_mem *mem, uint64_t offset,
				   uint32_t prot)
{
	return vm->shim->ops->vm_set_slot(vm, slot, address, length, mem, offset, prot);
}
static inline uint64_t shim_vm_slot_bound(struct shim_vm *vm, uint64_t address, uint64_t length,
					  struct shim_mem *mem, uint64_t offset)
{
	return vm->shim->ops->vm_slot_bound(vm, address, length, mem, offset);
}
static inline int shim_ctx_report_fd(struct shim_ctx *ctx)
{
	return ctx->shim->ops->ctx_report_fd ? ctx->shim->ops->ctx_report_fd(ctx) : -1;
}
static inline int shim_ctx_read_reports(struct shim_ctx *ctx, struct shim_report *reports, size_t n,
					size_t *ret_n)
{
	if (ctx->shim->ops->ctx_read_reports)
		return ctx->shim->ops->ctx_read_reports(ctx, reports, n, ret_n);
	*ret_n = 0;
	return 0;
}
static inline int shim_ctx_answer(struct shim_ctx *ctx, uint64_t cookie, bool success)
{
	return ctx->shim->ops->ctx_answer ? ctx->shim->ops->ctx_answer(ctx, cookie, success)
					  : -ENOENT;
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
