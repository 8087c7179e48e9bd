/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_INTERNAL_H
#define IOASID_SOFT_INTERNAL_H

/*
 * The objects of the software IOMMU, shared by the files that implement shim_ops.
 *
 * Locks.
 *	shim->lock	who has bound which device.
 *	window, tables	their own, innermost.
 *	ctx->flush	DMA holds it for reading for one chunk (SOFT_DMA_CHUNK bytes at
 *			most): from looking up the attachment to the last byte copied.
 *			Whoever takes a translation away first changes tables or
 *			attachments, then takes it for writing, drops caches, and only
 *			then returns or frees.  Writers come first, so that DMA cannot
 *			starve them, and wait for a chunk at most.
 * All else of a context belongs to the one thread that makes calls on it; what DMA reads
 * beside (attachments, roots, table entries, tags) is written atomically.
 */

#include "list.h"
#include "soft/iotlb.h"
#include "soft/pasid.h"
#include "soft/pasid_cache.h"
#include "soft/tables.h"
#include "soft/topology.h"
#include "soft/walk.h"
#include "soft/window.h"

#include <pthread.h>

#define SOFT_DMA_CHUNK (256u << 10)

/* What an IOMMU adds to its description. */
struct soft_iommu {
	const struct soft_iommu_desc *desc;
	struct soft_env env;
	struct soft_iotlb iotlb;
	struct soft_iotlb structures; /* the paging-structure cache */
	struct soft_pasid_cache pasids;
};

/* A device of the inventory. */
struct soft_slot {
	const struct soft_device_desc *desc;
	struct soft_iommu *iommu;
	struct soft_ctx *owner; /* who has bound it; under shim->lock */
};

struct soft_shim {
	struct shim base;
	struct soft_topology *topology;
	struct soft_iommu *iommus;
	struct soft_slot *slots; /* in the topology's order */
	struct soft_window window;
	struct soft_tables tables;
	uint64_t next_tag; /* atomic */
	pthread_mutex_t lock;
	/* Address widths and abilities that every IOMMU has, for tables made for none. */
	struct soft_env env;
	uint32_t pasid_tables; /* bit n: some device can be given PASID tables of format n */
};

struct soft_ctx {
	struct shim_ctx base;
	struct soft_dev *devices;
	struct soft_mem *memories;
	struct soft_pt *tables;
	struct soft_vm *vms;
	pthread_rwlock_t flush;
	pthread_mutex_t retag; /* DMA threads that give a child a new tag */
};

struct soft_dev {
	struct shim_dev base;
	struct soft_ctx *ctx;
	struct soft_slot *slot;
	struct soft_dev *prev, *next;
	struct shim_pt *attached; /* DMA without PASID; atomic */
	struct soft_pasid_table pasids;
	struct soft_iotlb tlb; /* the device's own; sets NULL: it has none */
};

struct soft_mem {
	struct shim_mem base;
	struct soft_ctx *ctx;
	struct soft_mem *prev, *next;
	struct soft_piece piece;
	uint32_t prot;
};

/* There may be a million of these. */
struct soft_pt {
	struct shim_pt base;
	struct soft_ctx *ctx;
	struct soft_pt *prev, *next;
	struct soft_pt *parent;
	struct soft_vm *vm; /* kind KVM: whose table it is */
	/*
	 * KERNEL: address of the root, 0: none yet.  USER: what is bound, in one word (user.c).
	 * KVM: the root is the VM's.  Atomic.
	 */
	uint64_t root;
	uint64_t tag;	    /* in the IOTLBs; atomic */
	uint64_t pasid_tag; /* in the PASID caches; atomic */
	/*
	 * Times that translations were taken away here.  A child's combined entries are good
	 * as long as the sum of its ancestors' counts is what it was when its tag was given
	 * (parents_seen); counts only grow, so the sum changes when one of them does.  Thus
	 * dropping what hangs on a parent costs the same for one child and for a million.
	 */
	uint64_t flushes;      /* written under ctx->flush for writing */
	uint64_t parents_seen; /* atomic */
	uint64_t iommus;       /* bit n: IOMMU n may have cached something under this table's tag */
	uint32_t n_tables;
	uint32_t n_attached;
	uint32_t n_children;
	uint8_t kind;		 /* enum shim_kind */
	uint8_t format;		 /* enum shim_format */
	struct soft_shape shape; /* of the table; all 0: kind PROCESS has none */
	uint8_t depth;		 /* 1: a root */
	uint8_t output_bits;	 /* what every device named at creation can put out */
	bool snoop : 1;
	bool snoop_control : 1;
	bool device_tlb : 1;
	bool access_dirty : 1;	 /* the hardware that it was made for keeps such bits */
	bool dirty_tracking : 1; /* it can be asked what was written */
	bool tracking : 1;	 /* and is, now */
	bool faults : 1;	 /* devices may ask for its pages */
};

static inline struct soft_shim *soft_shim_of(struct shim *shim)
{
	return (struct soft_shim *)shim;
}
static inline struct soft_ctx *soft_ctx_of(struct shim_ctx *ctx)
{
	return (struct soft_ctx *)ctx;
}
static inline struct soft_dev *soft_dev_of(struct shim_dev *dev)
{
	return (struct soft_dev *)dev;
}
static inline struct soft_mem *soft_mem_of(struct shim_mem *mem)
{
	return (struct soft_mem *)mem;
}
static inline struct soft_pt *soft_pt_of(struct shim_pt *pt)
{
	return (struct soft_pt *)pt;
}

/* context.c */
int soft_ctx_new(struct shim *shim, const char *owner, char *ret_reason, struct shim_ctx **ret_ctx);
void soft_ctx_free(struct shim_ctx *ctx);

/* device.c */
int soft_dev_bind(struct shim_ctx *ctx, const char *const *addresses, size_t n, char *ret_reason,
		  struct shim_dev **ret_devs);
void soft_dev_release(struct shim_dev *dev);
int soft_attach(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason);
int soft_replace(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason);
int soft_detach(struct shim_dev *dev, uint32_t pasid);
/* The page table at (device, PASID), NULL: none. */
struct soft_pt *soft_dev_attached(const struct soft_dev *dev, uint32_t pasid);
/* Whether the device can use the format of this width; else a reason of SHIM_REASON_MAX bytes. */
bool soft_dev_can_use(const struct soft_dev *dev, const struct soft_format *format,
		      unsigned int input_bits, bool snoop, char *ret_reason);

/* memory.c */
int soft_mem_register(struct shim_ctx *ctx, int fd, uint64_t offset, uint64_t length, uint32_t prot,
		      struct shim_mem **ret_mem);
void soft_mem_unregister(struct shim_mem *mem);
/* The window: the memory of this piece is gone. */
void soft_mem_drop(struct soft_piece *piece);

/* pagetable.c */
int soft_pt_create(struct shim_ctx *ctx, const struct shim_pt_spec *spec, char *ret_reason,
		   struct shim_pt **ret_pt);
void soft_pt_destroy(struct shim_pt *pt);
uint64_t soft_pt_table_bytes(struct shim_pt *pt);
uint64_t soft_pt_map_bound(struct shim_pt *pt, const struct shim_map *maps, size_t n);
int soft_pt_map(struct shim_pt *pt, const struct shim_map *maps, size_t n,
		const struct shim_cancel *cancel);
int soft_pt_unmap(struct shim_pt *pt, const struct shim_unmap *unmaps, size_t n, size_t *ret_done);
int soft_pt_walk(struct shim_pt *pt, uint64_t iova, uint32_t access, struct shim_walk *ret);
/* Whether [iova, iova + length) is a range of whole pages within the input space. */
bool soft_pt_range_fits(const struct soft_pt *pt, uint64_t iova, uint64_t length);
/*
 * The stages of a walk by this IOMMU for a PASID; NULL: each stage by what the hardware that
 * its own table was made for can do, and nothing is cached.
 */
unsigned int soft_pt_stages(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t who,
			    struct soft_stage stages[SOFT_STAGES_MAX]);
/* Takes all table pages; nobody walks. */
void soft_pt_clear(struct soft_pt *pt, struct soft_table_list *dead);

/* invalidate.c */
/* The tag that DMA through this table goes by now; ctx->flush is held. */
uint64_t soft_pt_tag(struct soft_pt *pt);
/* Drops all that is cached for a range of this table; ctx->flush is held for writing. */
void soft_flush_range(struct soft_pt *pt, uint64_t first, uint64_t last);
/* The same for all of it. */
void soft_flush_all(struct soft_pt *pt);
/* Drops translations only: leaves have changed, and nothing on the way to them. */
void soft_flush_translations(struct soft_pt *pt, uint64_t first, uint64_t last);
int soft_pt_invalidate(struct shim_pt *pt, const struct shim_invalidate *entries, size_t n,
		       size_t *ret_done);
/* One of them; ctx->flush is held for writing. */
int soft_invalidate_one(struct soft_pt *pt, const struct shim_invalidate *entry);
/* Drops a range for one PASID (or ASID, PSCID), or SOFT_WHO_ALL; leaf: translations only. */
void soft_drop(struct soft_pt *pt, uint32_t who, uint64_t first, uint64_t last, bool leaf);

/* native.c */
int soft_pt_invalidate_native(struct shim_pt *pt, enum shim_native type, const void *entries,
			      size_t n, size_t *ret_done);

/* user.c */
/* Whether the table can be bound to pt below parent; RANGE, UNSUPPORTED. */
int soft_user_check(const struct soft_pt *pt, const struct soft_pt *parent,
		    const struct shim_table *table, char *ret_reason);
/* What pt->root is while the table is bound. */
uint64_t soft_user_word(const struct shim_table *table);
/* Makes of a stage that of a table which the tenant wrote; root: pt->root, read once. */
void soft_user_stage(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t who, uint64_t root,
		     struct soft_stage *stage);
int soft_pt_bind_table(struct shim_pt *pt, const struct shim_table *table, char *ret_reason);
int soft_pt_bind_pasid_table(struct shim_pt *pt, const struct shim_pasid_table *table,
			     char *ret_reason);
#define SOFT_USER_PASIDS (1ull << 4)
/* Whether a PASID table is bound now. */
static inline bool soft_user_has_pasids(const struct soft_pt *pt)
{
	return pt->kind == SHIM_KIND_USER &&
	       __atomic_load_n(&pt->root, __ATOMIC_ACQUIRE) & SOFT_USER_PASIDS;
}

/* Whether a PASID table is bound now, and of which layout. */
bool soft_user_pasid_format(const struct soft_pt *pt, enum shim_pasid_format *ret_format);

/* pasidtable.c */
/* NULL: none. */
const struct soft_pasid_format *soft_pasid_format_find(enum shim_pasid_format id);
/* Whether translations are tagged by what an entry says (ASID, PSCID), not by PASID. */
bool soft_pasid_format_tags(enum shim_pasid_format id);
/* RANGE, UNSUPPORTED. */
int soft_pasid_table_check(const struct soft_pt *pt, const struct shim_pasid_table *table,
			   char *ret_reason);
/*
 * stages[0].pasids is not NULL: makes of it the stage of the table that the PASID's entry
 * leads to.  iommu NULL: by the tables, nothing is cached.  False: *ret_fault says why, all but
 * the access.
 */
bool soft_pasid_table_resolve(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t pasid,
			      struct soft_stage *stages, unsigned int n_stages, uint64_t iova,
			      struct shim_walk *trace, struct shim_fault *ret_fault);
/*
 * By what translations of a PASID are tagged in the caches, where that stands in its entry
 * (ASID, PSCID): the entry is looked for first, and on its way may fault.
 */
bool soft_pasid_table_who(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t pasid,
			  uint64_t iova, uint32_t *ret_who, struct shim_fault *ret_fault);
/* One PASID's entry, SHIM_NO_PASID: all; ctx->flush is held for writing.  RANGE, UNSUPPORTED. */
int soft_pasid_table_forget(struct soft_pt *pt, uint32_t pasid);

/* dirty.c */
int soft_pt_track_dirty(struct shim_pt *pt, bool enable, bool all_dirty);
int soft_pt_read_dirty(struct shim_pt *pt, uint64_t iova, uint64_t length, unsigned int page_shift,
		       bool clear, uint8_t *bitmap);

/* dma.c */
int soft_dma(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
	     size_t len, size_t *ret_done, struct shim_fault *ret_fault);

/* shim.c */
uint64_t soft_tag_new(struct soft_shim *shim);

#endif
