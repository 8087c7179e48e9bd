/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Page tables: those of kind KERNEL are made and taken apart by build.c and flushed here; those
 * that tenants write are bound in user.c; those of kind KVM are their VM's (vm.c); and kind
 * PROCESS has none: to the IOMMU it is a name by which an access is handed back to the caller.
 *
 * Unmapping goes: clear the entries; wait for DMA in flight and drop what is cached, both
 * under ctx->flush; only then give the empty tables back, as a walk may have been in them.
 * Mapping needs none of that, as absence is not cached, and runs beside DMA.
 */

#include "soft/build.h"
#include "soft/nesting.h"
#include "soft/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Above this many pages a flush drops all of the table instead of page by page. */
#define FLUSH_PAGES_MAX 512

static struct soft_shim *shim_of(const struct soft_pt *pt)
{
	return soft_shim_of(pt->base.shim);
}

static const struct soft_format *format_of(const struct soft_pt *pt)
{
	return soft_format_find(pt->format);
}

static bool pt_is_lpa2(const struct soft_pt *pt)
{
	return soft_format_is_lpa2(format_of(pt), pt->shape.input_bits);
}

static struct soft_builder builder_of(struct soft_pt *pt)
{
	return (struct soft_builder){
		.tables = &shim_of(pt)->tables,
		.format = format_of(pt),
		.shape = &pt->shape,
		.env = {.access_dirty = pt->dirty_tracking, .lpa2 = pt_is_lpa2(pt)},
		.snoop = pt->snoop && format_of(pt)->snoop_in_leaf,
		.clean = pt->tracking,
		.root = &pt->root,
		.n_tables = &pt->n_tables,
	};
}

/* ---- create, destroy ---- */

__attribute__((format(printf, 3, 4))) static int refuse(char *ret_reason, int error,
							const char *format, ...)
{
	va_list args;

	if (ret_reason) {
		va_start(args, format);
		vsnprintf(ret_reason, SHIM_REASON_MAX, format, args);
		va_end(args);
	}
	return error;
}

static int check_process(const struct shim_pt_spec *spec, char *ret_reason)
{
	if (spec->format != SHIM_FORMAT_NONE || spec->parent || spec->enforce_snoop ||
	    spec->dirty_tracking || spec->faults)
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "a process's address space has no format, no parent, no dirty "
			      "tracking and no page requests");
	return 0;
}

static int check_spec(const struct soft_ctx *ctx, const struct shim_pt_spec *spec, char *ret_reason,
		      struct soft_shape *ret_shape)
{
	static const char *const kinds[_SHIM_KIND_MAX] = {
		[SHIM_KIND_KERNEL] = "KERNEL",
		[SHIM_KIND_USER] = "USER",
		[SHIM_KIND_PROCESS] = "PROCESS",
		[SHIM_KIND_KVM] = "KVM",
	};
	const struct soft_format *format = soft_format_find(spec->format);
	const struct soft_pt *parent = spec->parent ? soft_pt_of(spec->parent) : NULL;
	int r;

	if (spec->kind == SHIM_KIND_PROCESS)
		return check_process(spec, ret_reason);
	if (spec->kind != SHIM_KIND_KERNEL && spec->kind != SHIM_KIND_USER &&
	    spec->kind != SHIM_KIND_KVM)
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "kind %s is not built in this version of the software IOMMU",
			      spec->kind < _SHIM_KIND_MAX && kinds[spec->kind] ? kinds[spec->kind]
									       : "?");
	if (spec->kind == SHIM_KIND_USER && !parent)
		return refuse(
			ret_reason, SHIM_E_UNSUPPORTED,
			"a table that the tenant writes needs a parent: its addresses are the "
			"parent's");
	if (!format)
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "the software IOMMU does not build page-table format %d",
			      (int)spec->format);
	if (spec->kind == SHIM_KIND_KVM && (!soft_vm_has_format(format->id) || parent))
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "a VM's table has format EPT and no parent");
	if (spec->kind == SHIM_KIND_KVM &&
	    (!spec->vm || soft_vm_of(spec->vm)->base.shim != ctx->base.shim ||
	     soft_vm_of(spec->vm)->ctx != ctx))
		return -EINVAL;
	if (spec->dirty_tracking && !format->is_dirty)
		return refuse(ret_reason, SHIM_E_UNSUPPORTED, "format %s has no dirty bits",
			      format->name);
	/* It is shared: one table's tracking would clean what another one's is asked for. */
	if (spec->kind == SHIM_KIND_KVM && spec->dirty_tracking)
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "a VM's table is the VM's: it tracks its dirty pages by itself");
	r = soft_shape_init(format,
			    &(struct soft_shape_spec){
				    .input_bits = spec->input_bits,
				    .lpa2 = soft_format_is_lpa2(format, spec->input_bits),
			    },
			    ret_reason, ret_shape);
	if (r)
		return r;
	if (parent && !(soft_nesting_parents(format->id) & 1u << parent->format))
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "format %s does not nest on format %s", format->name,
			      format_of(parent) ? format_of(parent)->name : "none");
	if (parent && parent->depth == SOFT_DEPTH_MAX)
		return refuse(ret_reason, SHIM_E_UNSUPPORTED,
			      "page tables nest at most %d deep on the software IOMMU",
			      SOFT_DEPTH_MAX);
	for (size_t i = 0; i < spec->n_devices; i++) {
		const struct soft_dev *dev = soft_dev_of(spec->devices[i]);
		const struct shim_device_info *info = &dev->slot->desc->info;

		if (!soft_dev_can_use(dev, format, ret_shape->input_bits, spec->enforce_snoop,
				      ret_reason))
			return SHIM_E_INCOMPATIBLE;
		if (spec->kind == SHIM_KIND_USER && *info->caps.kind_absent[SHIM_KIND_USER])
			return refuse(ret_reason, SHIM_E_INCOMPATIBLE, "%s: IOMMU %s does not nest",
				      info->address, info->iommu);
		if (spec->dirty_tracking && !info->caps.dirty_tracking)
			return refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: IOMMU %s keeps no dirty bits", info->address,
				      info->iommu);
		if (parent && parent->depth >= info->caps.max_depth)
			return refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: IOMMU %s nests %u deep at most", info->address,
				      info->iommu, info->caps.max_depth);
	}
	return 0;
}

int soft_pt_create(struct shim_ctx *base, const struct shim_pt_spec *spec, char *ret_reason,
		   struct shim_pt **ret_pt)
{
	struct soft_shim *shim = soft_shim_of(base->shim);
	struct soft_ctx *ctx = soft_ctx_of(base);
	struct soft_shape shape = {0};
	struct soft_env env = {
		.output_bits = 52,
		.snoop_control = true,
		.device_tlb = true,
		.access_dirty = true,
	};
	struct soft_pt *pt;
	int r;

	r = check_spec(ctx, spec, ret_reason, &shape);
	if (r)
		return r;
	pt = calloc(1, sizeof(*pt));
	if (!pt)
		return -ENOMEM;
	if (!spec->n_devices)
		env = shim->env;
	for (size_t i = 0; i < spec->n_devices; i++) {
		const struct soft_env *dev = &soft_dev_of(spec->devices[i])->slot->iommu->env;

		if (dev->output_bits < env.output_bits)
			env.output_bits = dev->output_bits;
		env.snoop_control &= dev->snoop_control;
		env.device_tlb &= dev->device_tlb;
		env.access_dirty &= dev->access_dirty;
	}
	pt->base.shim = base->shim;
	pt->ctx = ctx;
	pt->tag = soft_tag_new(shim);
	pt->pasid_tag = pt->tag;
	pt->kind = (uint8_t)spec->kind;
	pt->format = (uint8_t)spec->format;
	pt->shape = shape;
	pt->output_bits = env.output_bits;
	pt->snoop = spec->enforce_snoop;
	/* A leaf with the snoop bit is only read by IOMMUs that have it. */
	pt->snoop_control = env.snoop_control || spec->enforce_snoop;
	pt->device_tlb = env.device_tlb;
	/* The same with dirty bits. */
	pt->access_dirty = env.access_dirty || spec->dirty_tracking;
	pt->dirty_tracking = spec->dirty_tracking;
	pt->faults = spec->faults;
	pt->depth = 1;
	if (spec->kind == SHIM_KIND_USER && spec->table) {
		r = soft_user_check(pt, soft_pt_of(spec->parent), spec->table, ret_reason);
		if (r) {
			free(pt);
			return r;
		}
		pt->root = soft_user_word(spec->table);
	}
	if (spec->kind == SHIM_KIND_KVM) {
		pt->vm = soft_vm_of(spec->vm);
		pt->vm->n_pts++;
	}
	if (spec->parent) {
		pt->parent = soft_pt_of(spec->parent);
		pt->parent->n_children++;
		pt->depth = (uint8_t)(pt->parent->depth + 1);
	}
	SHIM_LIST_ADD(ctx->tables, pt);
	*ret_pt = &pt->base;
	return 0;
}

void soft_pt_clear(struct soft_pt *pt, struct soft_table_list *dead)
{
	struct soft_builder builder = builder_of(pt);

	/* The tenant's own pages are in its memory. */
	if (pt->kind != SHIM_KIND_USER)
		soft_build_clear(&builder, dead);
}

void soft_pt_destroy(struct shim_pt *base)
{
	struct soft_pt *pt = soft_pt_of(base);
	struct soft_table_list dead = {0};

	/* Against the contract; what still leads here must not dangle. */
	if (!pt || pt->n_attached || pt->n_children)
		return;
	/* Nothing is attached, so nothing walks, and its tags are never used again. */
	soft_pt_clear(pt, &dead);
	soft_tables_put(&shim_of(pt)->tables, &dead);
	if (pt->parent)
		pt->parent->n_children--;
	if (pt->vm)
		pt->vm->n_pts--;
	SHIM_LIST_REMOVE(pt->ctx->tables, pt);
	free(pt);
}

uint64_t soft_pt_table_bytes(struct shim_pt *pt)
{
	return (uint64_t)soft_pt_of(pt)->n_tables * SOFT_PAGE_SIZE;
}

/* ---- map ---- */

bool soft_pt_range_fits(const struct soft_pt *pt, uint64_t iova, uint64_t length)
{
	const struct soft_format *format = format_of(pt);
	uint64_t last = iova + length - 1;

	if (!length || (iova | length) % SOFT_PAGE_SIZE || last < iova)
		return false;
	if (soft_shape_check_input(format, &pt->shape, iova) ||
	    soft_shape_check_input(format, &pt->shape, last))
		return false;
	/* Both canonical, but in different halves: there is a hole between. */
	return !((iova ^ last) >> 63) || format->input != SOFT_INPUT_CANONICAL;
}

/* Where the mapping goes: host-physical for a root, else an address of the parent. */
static int resolve(const struct soft_pt *pt, const struct shim_map *map, uint64_t *ret_target)
{
	const struct soft_mem *mem;
	uint64_t end, granule;

	if (pt->kind != SHIM_KIND_KERNEL)
		return SHIM_E_UNSUPPORTED;
	granule = (1ull << format_of(pt)->granule) - 1;
	if (!soft_pt_range_fits(pt, map->iova, map->length) || (map->iova | map->length) & granule)
		return SHIM_E_RANGE;
	if (!map->prot || map->prot & ~(SHIM_READ | SHIM_WRITE | SHIM_EXEC))
		return -EINVAL;
	if ((map->prot & SHIM_EXEC && !format_of(pt)->execute) ||
	    (map->prot & format_of(pt)->needs_read && !(map->prot & SHIM_READ)))
		return SHIM_E_UNSUPPORTED;
	if (pt->parent) {
		if (map->mem)
			return SHIM_E_UNSUPPORTED;
		if (!soft_pt_range_fits(pt->parent, map->parent_address, map->length) ||
		    (map->parent_address + map->length - 1) >> pt->output_bits ||
		    map->parent_address & granule)
			return SHIM_E_RANGE;
		*ret_target = map->parent_address;
		return 0;
	}
	if (!map->mem)
		return SHIM_E_UNSUPPORTED;
	mem = soft_mem_of(map->mem);
	if (mem->ctx != pt->ctx)
		return -EINVAL;
	if (map->offset % SOFT_PAGE_SIZE ||
	    __builtin_add_overflow(map->offset, map->length, &end) || end > mem->piece.length)
		return SHIM_E_RANGE;
	/* Executing is reading; a memory has no permission of its own for it. */
	if ((map->prot & SHIM_EXEC ? map->prot | SHIM_READ : map->prot) & ~(mem->prot | SHIM_EXEC))
		return -EACCES;
	if ((mem->piece.start + map->offset) & granule)
		return SHIM_E_RANGE;
	*ret_target = mem->piece.start + map->offset;
	return 0;
}

uint64_t soft_pt_map_bound(struct shim_pt *base, const struct shim_map *maps, size_t n)
{
	struct soft_pt *pt = soft_pt_of(base);
	struct soft_builder builder = builder_of(pt);
	uint64_t pages = 0, target;

	for (size_t i = 0; i < n; i++)
		if (!resolve(pt, &maps[i], &target))
			pages += soft_build_bound(&builder, maps[i].iova, maps[i].length, target);
	return pages * SOFT_PAGE_SIZE;
}

/* ---- unmap ---- */

/*
 * Takes out mappings in order, up to the first that is not whole, with one flush at the
 * end.  Returns how many.
 */
static size_t take_out(struct soft_pt *pt, const struct shim_unmap *unmaps, size_t n)
{
	struct soft_builder builder = builder_of(pt);
	struct soft_table_list dead = {0};
	uint64_t pages = 0;
	size_t done;

	for (done = 0; done < n; done++) {
		const struct shim_unmap *u = &unmaps[done];

		if (!soft_pt_range_fits(pt, u->iova, u->length) ||
		    !soft_build_is_whole(&builder, u->iova, u->length))
			break;
		soft_build_unmap(&builder, u->iova, u->length, &dead);
		pages += u->length / SOFT_PAGE_SIZE;
	}
	if (!done)
		return 0;
	pthread_rwlock_wrlock(&pt->ctx->flush);
	pt->flushes++;
	if (pages > FLUSH_PAGES_MAX)
		soft_flush_all(pt);
	else
		for (size_t i = 0; i < done; i++)
			soft_flush_range(pt, unmaps[i].iova, unmaps[i].iova + unmaps[i].length - 1);
	pthread_rwlock_unlock(&pt->ctx->flush);
	soft_tables_put(&shim_of(pt)->tables, &dead);
	return done;
}

int soft_pt_map(struct shim_pt *base, const struct shim_map *maps, size_t n,
		const struct shim_cancel *cancel)
{
	struct soft_pt *pt = soft_pt_of(base);
	struct soft_builder builder = builder_of(pt);
	uint64_t target, done;
	size_t i;
	int r = 0;

	for (i = 0; i < n; i++) {
		r = resolve(pt, &maps[i], &target);
		if (r)
			return r;
	}
	for (i = 0; i < n; i++) {
		/* Building tables is quick: an entry is chunk enough. */
		done = 0;
		r = cancel && cancel->requested ? -ECANCELED : 0;
		if (r)
			break;
		(void)resolve(pt, &maps[i], &target);
		r = soft_build_map(&builder, maps[i].iova, maps[i].length, target, maps[i].prot,
				   &done);
		if (r)
			break;
	}
	if (!r)
		return 0;
	/* Undo: a device may have seen some of it. */
	if (done)
		take_out(pt, &(struct shim_unmap){maps[i].iova, done}, 1);
	while (i--)
		take_out(pt, &(struct shim_unmap){maps[i].iova, maps[i].length}, 1);
	return r;
}

int soft_pt_unmap(struct shim_pt *base, const struct shim_unmap *unmaps, size_t n, size_t *ret_done)
{
	*ret_done = 0;
	if (soft_pt_of(base)->kind == SHIM_KIND_USER)
		return SHIM_E_UNSUPPORTED;
	*ret_done = take_out(soft_pt_of(base), unmaps, n);
	return *ret_done == n ? 0 : SHIM_E_NO_MAPPING;
}

/* ---- walk ---- */

/* What the hardware that the table was made for can do. */
static struct soft_env env_of(const struct soft_pt *pt)
{
	return (struct soft_env){
		.output_bits = pt->output_bits,
		.snoop_control = pt->snoop_control,
		.device_tlb = pt->device_tlb,
		.access_dirty = pt->access_dirty,
	};
}

static struct soft_stage stage_of(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t who)
{
	uint64_t root = pt->vm ? soft_vm_root(pt->vm, pt->format)
			       : __atomic_load_n(&pt->root, __ATOMIC_ACQUIRE);
	struct soft_stage stage = {
		.format = format_of(pt),
		.env = iommu ? iommu->env : env_of(pt),
		.shape = pt->shape,
		.empty = !root,
		.root = root,
		.load = soft_window_load,
		.update = soft_window_update,
		.memory = &shim_of(pt)->window,
	};

	/* An entry of a PASID table says by itself whether they are kept. */
	stage.env.access_dirty &=
		stage.format->always_access_dirty || pt->dirty_tracking || soft_user_has_pasids(pt);
	stage.env.lpa2 = pt_is_lpa2(pt);
	stage.faults_unused = stage.format->faults_unused && !stage.env.access_dirty;
	if (pt->kind == SHIM_KIND_USER)
		soft_user_stage(pt, iommu, who, root, &stage);
	return stage;
}

unsigned int soft_pt_stages(struct soft_pt *pt, struct soft_iommu *iommu, uint32_t who,
			    struct soft_stage stages[SOFT_STAGES_MAX])
{
	unsigned int n = 0;

	for (; pt; pt = pt->parent) {
		stages[n++] = stage_of(pt, iommu, who);
		/* Above, PASIDs are not told apart. */
		who = SOFT_WHO_NOBODY;
	}
	return n;
}

int soft_pt_walk(struct shim_pt *base, uint64_t iova, uint32_t access, struct shim_walk *ret)
{
	struct soft_pt *pt = soft_pt_of(base);
	struct soft_stage stages[SOFT_STAGES_MAX];
	struct soft_translation where;
	struct soft_piece *piece;
	unsigned int tries = 0;
	struct soft_mem *mem;
	unsigned int n;

	if (pt->kind == SHIM_KIND_PROCESS)
		return SHIM_E_UNSUPPORTED;
	if (access != SHIM_READ && access != SHIM_WRITE && access != SHIM_EXEC)
		return -EINVAL;
	*ret = (struct shim_walk){0};
	/* What a VM has not filled yet, it fills for this as for a device. */
	for (;;) {
		bool found;

		n = soft_pt_stages(pt, NULL, SOFT_WHO_NOBODY, stages);
		/* Looking changes nothing. */
		for (unsigned int i = 0; i < n; i++)
			stages[i].update = NULL;
		/* A PASID table is asked as by a device without PASID. */
		found = !stages[0].pasids ||
			soft_pasid_table_resolve(pt, NULL, 0, stages, n, iova, ret, &ret->fault);
		if (found &&
		    soft_walk(stages, n, iova, access | SOFT_USER, ret, &where, &ret->fault))
			break;
		if (!soft_vm_filled(pt, &ret->fault, &tries)) {
			if (!found)
				ret->fault.access = access;
			return 0;
		}
		*ret = (struct shim_walk){0};
	}
	ret->output = where.output;
	ret->page_size = where.page_size;
	ret->prot = where.prot & (SHIM_READ | SHIM_WRITE | SHIM_EXEC);
	piece = soft_window_find(&shim_of(pt)->window, where.output);
	if (piece) {
		mem = (struct soft_mem *)((char *)piece - offsetof(struct soft_mem, piece));
		ret->mem = &mem->base;
		ret->offset = where.output - piece->start;
	}
	return 0;
}
