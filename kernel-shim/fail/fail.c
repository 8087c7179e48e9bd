/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See fail.h.  The contract says that every object begins with a pointer to its shim, and
 * that calls go by that shim's ops.  So it is enough to put another table of operations
 * into the inner shim; the table is a member of our state, which is found from it.
 */

#include "fail/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct fail_state {
	struct shim_ops ops;
	const struct shim_ops *inner;
	/* All atomic. */
	uint64_t nth;
	uint64_t calls;
	int error;
	bool fired;
	bool held;
	unsigned holders_ended;
};

static struct fail_state *state_of(struct shim *shim)
{
	return (struct fail_state *)((char *)shim->ops - offsetof(struct fail_state, ops));
}

/* Counts a call; what it shall fail with, or 0. */
static int count(struct fail_state *state)
{
	uint64_t call = __atomic_add_fetch(&state->calls, 1, __ATOMIC_RELAXED);

	if (call != __atomic_load_n(&state->nth, __ATOMIC_ACQUIRE))
		return 0;
	__atomic_store_n(&state->fired, true, __ATOMIC_RELAXED);
	return __atomic_load_n(&state->error, __ATOMIC_RELAXED);
}

static void fail_free(struct shim *shim)
{
	struct fail_state *state = state_of(shim);

	shim->ops = state->inner;
	free(state);
	shim_free(shim);
}

static size_t fail_device_count(struct shim *shim)
{
	return state_of(shim)->inner->device_count(shim);
}

static const struct shim_device_info *fail_device_info(struct shim *shim, size_t index)
{
	return state_of(shim)->inner->device_info(shim, index);
}

static int fail_ctx_new(struct shim *shim, const char *owner, char *ret_reason,
			struct shim_ctx **ret_ctx)
{
	int r = count(state_of(shim));

	return r ? r : state_of(shim)->inner->ctx_new(shim, owner, ret_reason, ret_ctx);
}

static void fail_ctx_free(struct shim_ctx *ctx)
{
	state_of(ctx->shim)->inner->ctx_free(ctx);
}

/* A context of a shim that gives none away is one of the shim's own, and its fd an eventfd. */
static int fail_ctx_new_delegated(struct shim *shim, const char *owner, int holder, uid_t opener,
				  uint64_t bytes, char *ret_reason, struct shim_ctx **ret_ctx)
{
	const struct shim_ops *inner = state_of(shim)->inner;
	int r = count(state_of(shim));

	if (r)
		return r;
	if (inner->ctx_new_delegated)
		return inner->ctx_new_delegated(shim, owner, holder, opener, bytes, ret_reason,
						ret_ctx);
	return inner->ctx_new(shim, owner, ret_reason, ret_ctx);
}

static int fail_ctx_fd(struct shim_ctx *ctx, int *ret_fd)
{
	struct fail_state *state = state_of(ctx->shim);
	int r = count(state), fd;

	if (r)
		return r;
	if (state->inner->ctx_fd)
		return state->inner->ctx_fd(ctx, ret_fd);
	fd = eventfd(0, EFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int fail_holder_end(struct shim *shim, const char *owner, int holder, char *ret_reason)
{
	struct fail_state *state = state_of(shim);
	int r = count(state);

	if (r)
		return r;
	if (state->inner->holder_end)
		return state->inner->holder_end(shim, owner, holder, ret_reason);
	__atomic_add_fetch(&state->holders_ended, 1, __ATOMIC_RELAXED);
	return 0;
}

static int fail_dev_bind(struct shim_ctx *ctx, const char *const *addresses, size_t n,
			 char *ret_reason, struct shim_dev **ret_devs)
{
	struct fail_state *state = state_of(ctx->shim);
	int r = count(state);

	return r ? r : state->inner->dev_bind(ctx, addresses, n, ret_reason, ret_devs);
}

static void fail_dev_release(struct shim_dev *dev)
{
	state_of(dev->shim)->inner->dev_release(dev);
}

static int fail_dev_is_free(struct shim *shim, const char *address)
{
	struct fail_state *state = state_of(shim);

	if (__atomic_load_n(&state->held, __ATOMIC_RELAXED))
		return SHIM_E_DEVICE_BUSY;
	return state->inner->dev_is_free ? state->inner->dev_is_free(shim, address) : 0;
}

static int fail_dev_fd(struct shim_dev *dev, int *ret_fd)
{
	struct fail_state *state = state_of(dev->shim);
	int r = count(state), fd;

	if (r)
		return r;
	if (state->inner->dev_fd)
		return state->inner->dev_fd(dev, ret_fd);
	fd = eventfd(0, EFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int fail_mem_register(struct shim_ctx *ctx, int fd, uint64_t offset, uint64_t length,
			     uint32_t prot, struct shim_mem **ret_mem)
{
	struct fail_state *state = state_of(ctx->shim);
	int r = count(state);

	return r ? r : state->inner->mem_register(ctx, fd, offset, length, prot, ret_mem);
}

static void fail_mem_unregister(struct shim_mem *mem)
{
	state_of(mem->shim)->inner->mem_unregister(mem);
}

static int fail_pt_create(struct shim_ctx *ctx, const struct shim_pt_spec *spec, char *ret_reason,
			  struct shim_pt **ret_pt)
{
	struct fail_state *state = state_of(ctx->shim);
	int r = count(state);

	return r ? r : state->inner->pt_create(ctx, spec, ret_reason, ret_pt);
}

static void fail_pt_destroy(struct shim_pt *pt)
{
	state_of(pt->shim)->inner->pt_destroy(pt);
}

static uint64_t fail_pt_table_bytes(struct shim_pt *pt)
{
	return state_of(pt->shim)->inner->pt_table_bytes(pt);
}

static uint64_t fail_pt_map_bound(struct shim_pt *pt, const struct shim_map *maps, size_t n)
{
	return state_of(pt->shim)->inner->pt_map_bound(pt, maps, n);
}

static int fail_pt_map(struct shim_pt *pt, const struct shim_map *maps, size_t n,
		       const struct shim_cancel *cancel)
{
	int r = count(state_of(pt->shim));

	return r ? r : state_of(pt->shim)->inner->pt_map(pt, maps, n, cancel);
}

static int fail_pt_unmap(struct shim_pt *pt, const struct shim_unmap *unmaps, size_t n,
			 size_t *ret_done)
{
	struct fail_state *state = state_of(pt->shim);
	int r = count(state), inner;

	inner = state->inner->pt_unmap(pt, unmaps, r ? n / 2 : n, ret_done);
	return inner ? inner : r;
}

static int fail_pt_invalidate(struct shim_pt *pt, const struct shim_invalidate *entries, size_t n,
			      size_t *ret_done)
{
	struct fail_state *state = state_of(pt->shim);
	int r = count(state), inner;

	inner = state->inner->pt_invalidate(pt, entries, r ? n / 2 : n, ret_done);
	return inner ? inner : r;
}

static int fail_pt_walk(struct shim_pt *pt, uint64_t iova, uint32_t access, struct shim_walk *ret)
{
	int r = count(state_of(pt->shim));

	return r ? r : state_of(pt->shim)->inner->pt_walk(pt, iova, access, ret);
}

static int fail_attach(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason)
{
	int r = count(state_of(dev->shim));

	return r ? r : state_of(dev->shim)->inner->attach(dev, pasid, pt, ret_reason);
}

static int fail_replace(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt, char *ret_reason)
{
	int r = count(state_of(dev->shim));

	return r ? r : state_of(dev->shim)->inner->replace(dev, pasid, pt, ret_reason);
}

static int fail_detach(struct shim_dev *dev, uint32_t pasid)
{
	int r = count(state_of(dev->shim));

	return r ? r : state_of(dev->shim)->inner->detach(dev, pasid);
}

static int fail_dma(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
		    size_t len, size_t *ret_done, struct shim_fault *ret_fault)
{
	struct fail_state *state = state_of(dev->shim);
	int r = count(state);

	return r ? r : state->inner->dma(dev, pasid, access, iova, buf, len, ret_done, ret_fault);
}

/* ---- what a shim may lack: only where the inner one has it ---- */

static int fail_pt_invalidate_native(struct shim_pt *pt, enum shim_native type, const void *entries,
				     size_t n, size_t *ret_done)
{
	struct fail_state *state = state_of(pt->shim);
	int r = count(state), inner;

	inner = state->inner->pt_invalidate_native(pt, type, entries, r ? n / 2 : n, ret_done);
	return inner ? inner : r;
}

static int fail_pt_bind_table(struct shim_pt *pt, const struct shim_table *table, char *ret_reason)
{
	int r = count(state_of(pt->shim));

	return r ? r : state_of(pt->shim)->inner->pt_bind_table(pt, table, ret_reason);
}

static int fail_pt_bind_pasid_table(struct shim_pt *pt, const struct shim_pasid_table *table,
				    char *ret_reason)
{
	int r = count(state_of(pt->shim));

	return r ? r : state_of(pt->shim)->inner->pt_bind_pasid_table(pt, table, ret_reason);
}

static int fail_pt_track_dirty(struct shim_pt *pt, bool enable, bool all_dirty)
{
	int r = count(state_of(pt->shim));

	return r ? r : state_of(pt->shim)->inner->pt_track_dirty(pt, enable, all_dirty);
}

static int fail_pt_read_dirty(struct shim_pt *pt, uint64_t iova, uint64_t length,
			      unsigned int page_shift, bool clear, uint8_t *bitmap)
{
	struct fail_state *state = state_of(pt->shim);
	int r = count(state);

	return r ? r : state->inner->pt_read_dirty(pt, iova, length, page_shift, clear, bitmap);
}

static int fail_vm_create(struct shim_ctx *ctx, struct shim_vm **ret_vm)
{
	int r = count(state_of(ctx->shim));

	return r ? r : state_of(ctx->shim)->inner->vm_create(ctx, ret_vm);
}

static void fail_vm_destroy(struct shim_vm *vm)
{
	state_of(vm->shim)->inner->vm_destroy(vm);
}

static int fail_vm_set_slot(struct shim_vm *vm, uint32_t slot, uint64_t address, uint64_t length,
			    struct shim_mem *mem, uint64_t offset, uint32_t prot)
{
	struct fail_state *state = state_of(vm->shim);
	int r = count(state);

	return r ? r : state->inner->vm_set_slot(vm, slot, address, length, mem, offset, prot);
}

static uint64_t fail_vm_slot_bound(struct shim_vm *vm, uint64_t address, uint64_t length,
				   struct shim_mem *mem, uint64_t offset)
{
	return state_of(vm->shim)->inner->vm_slot_bound(vm, address, length, mem, offset);
}

static int fail_ctx_report_fd(struct shim_ctx *ctx)
{
	return state_of(ctx->shim)->inner->ctx_report_fd(ctx);
}

static int fail_ctx_read_reports(struct shim_ctx *ctx, struct shim_report *reports, size_t n,
				 size_t *ret_n)
{
	return state_of(ctx->shim)->inner->ctx_read_reports(ctx, reports, n, ret_n);
}

static int fail_ctx_answer(struct shim_ctx *ctx, uint64_t cookie, bool success)
{
	int r = count(state_of(ctx->shim));

	return r ? r : state_of(ctx->shim)->inner->ctx_answer(ctx, cookie, success);
}

#define WHERE_PRESENT(name) ops->name = inner->name ? fail_##name : NULL

static void add_optional(struct shim_ops *ops, const struct shim_ops *inner)
{
	WHERE_PRESENT(dma);
	WHERE_PRESENT(pt_invalidate_native);
	WHERE_PRESENT(pt_bind_table);
	WHERE_PRESENT(pt_bind_pasid_table);
	WHERE_PRESENT(pt_track_dirty);
	WHERE_PRESENT(pt_read_dirty);
	WHERE_PRESENT(vm_create);
	WHERE_PRESENT(vm_destroy);
	WHERE_PRESENT(vm_set_slot);
	WHERE_PRESENT(vm_slot_bound);
	WHERE_PRESENT(ctx_report_fd);
	WHERE_PRESENT(ctx_read_reports);
	WHERE_PRESENT(ctx_answer);
}

/* ---- restart: likewise ---- */

static void fail_ctx_save(struct shim_ctx *ctx, struct shim_saved *ret_saved)
{
	state_of(ctx->shim)->inner->ctx_save(ctx, ret_saved);
}

static void fail_dev_save(struct shim_dev *dev, struct shim_saved *ret_saved)
{
	state_of(dev->shim)->inner->dev_save(dev, ret_saved);
}

static void fail_pt_save(struct shim_pt *pt, struct shim_saved *ret_saved)
{
	state_of(pt->shim)->inner->pt_save(pt, ret_saved);
}

static void fail_attach_save(struct shim_dev *dev, uint32_t pasid, struct shim_saved *ret_saved)
{
	state_of(dev->shim)->inner->attach_save(dev, pasid, ret_saved);
}

static int fail_ctx_restore(struct shim *shim, const char *owner, const struct shim_saved *saved,
			    struct shim_ctx **ret_ctx)
{
	int r = count(state_of(shim));

	return r ? r : state_of(shim)->inner->ctx_restore(shim, owner, saved, ret_ctx);
}

static int fail_dev_restore(struct shim_ctx *ctx, const char *address,
			    const struct shim_saved *saved, struct shim_dev **ret_dev)
{
	int r = count(state_of(ctx->shim));

	return r ? r : state_of(ctx->shim)->inner->dev_restore(ctx, address, saved, ret_dev);
}

static int fail_pt_restore(struct shim_ctx *ctx, const struct shim_pt_spec *spec,
			   const struct shim_saved *saved, struct shim_pt **ret_pt)
{
	int r = count(state_of(ctx->shim));

	return r ? r : state_of(ctx->shim)->inner->pt_restore(ctx, spec, saved, ret_pt);
}

static int fail_pt_restore_map(struct shim_pt *pt, const struct shim_map *maps, size_t n)
{
	int r = count(state_of(pt->shim));

	return r ? r : state_of(pt->shim)->inner->pt_restore_map(pt, maps, n);
}

static int fail_attach_restore(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt,
			       const struct shim_saved *saved)
{
	int r = count(state_of(dev->shim));

	return r ? r : state_of(dev->shim)->inner->attach_restore(dev, pasid, pt, saved);
}

static int fail_pt_undo_map(struct shim_pt *pt, const struct shim_unmap *ranges, size_t n)
{
	struct fail_state *state = state_of(pt->shim);
	int r = count(state), inner;

	inner = state->inner->pt_undo_map(pt, ranges, r ? n / 2 : n);
	return inner ? inner : r;
}

static int fail_ctx_restored(struct shim_ctx *ctx, size_t *ret_strays)
{
	int r = count(state_of(ctx->shim));

	return r ? r : state_of(ctx->shim)->inner->ctx_restored(ctx, ret_strays);
}

static void fail_ctx_leave(struct shim_ctx *ctx)
{
	state_of(ctx->shim)->inner->ctx_leave(ctx);
}

static int fail_sweep(struct shim *shim, const struct shim_saved *known, size_t n,
		      size_t *ret_ended)
{
	int r = count(state_of(shim));

	return r ? r : state_of(shim)->inner->sweep(shim, known, n, ret_ended);
}

static void add_restart(struct shim_ops *ops, const struct shim_ops *inner)
{
	if (!inner->ctx_restore)
		return;
	ops->ctx_save = fail_ctx_save;
	ops->dev_save = fail_dev_save;
	ops->pt_save = fail_pt_save;
	ops->attach_save = fail_attach_save;
	ops->ctx_restore = fail_ctx_restore;
	ops->dev_restore = fail_dev_restore;
	ops->pt_restore = fail_pt_restore;
	ops->pt_restore_map = fail_pt_restore_map;
	ops->attach_restore = fail_attach_restore;
	ops->pt_undo_map = fail_pt_undo_map;
	ops->ctx_restored = fail_ctx_restored;
	ops->ctx_leave = fail_ctx_leave;
	ops->sweep = fail_sweep;
}

int fail_shim_new(struct shim *inner, struct shim **ret_shim)
{
	struct fail_state *state = calloc(1, sizeof(*state));

	if (!state)
		return -ENOMEM;
	state->inner = inner->ops;
	state->ops = (struct shim_ops){
		.name = inner->ops->name,
		.asks_host_use = inner->ops->asks_host_use,
		.free = fail_free,
		.device_count = fail_device_count,
		.device_info = fail_device_info,
		.ctx_new = fail_ctx_new,
		.ctx_free = fail_ctx_free,
		.ctx_new_delegated = fail_ctx_new_delegated,
		.ctx_fd = fail_ctx_fd,
		.holder_end = fail_holder_end,
		.dev_bind = fail_dev_bind,
		.dev_release = fail_dev_release,
		.dev_is_free = fail_dev_is_free,
		.dev_fd = fail_dev_fd,
		.mem_register = fail_mem_register,
		.mem_unregister = fail_mem_unregister,
		.pt_create = fail_pt_create,
		.pt_destroy = fail_pt_destroy,
		.pt_table_bytes = fail_pt_table_bytes,
		.pt_map_bound = fail_pt_map_bound,
		.pt_map = fail_pt_map,
		.pt_unmap = fail_pt_unmap,
		.pt_invalidate = fail_pt_invalidate,
		.pt_walk = fail_pt_walk,
		.attach = fail_attach,
		.replace = fail_replace,
		.detach = fail_detach,
	};
	add_optional(&state->ops, inner->ops);
	add_restart(&state->ops, inner->ops);
	inner->ops = &state->ops;
	*ret_shim = inner;
	return 0;
}

void fail_shim_hold(struct shim *shim, bool held)
{
	__atomic_store_n(&state_of(shim)->held, held, __ATOMIC_RELAXED);
}

unsigned fail_shim_holders_ended(struct shim *shim)
{
	return __atomic_load_n(&state_of(shim)->holders_ended, __ATOMIC_RELAXED);
}

void fail_shim_arm(struct shim *shim, uint64_t nth, int error)
{
	struct fail_state *state = state_of(shim);

	__atomic_store_n(&state->nth, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&state->calls, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&state->fired, false, __ATOMIC_RELAXED);
	__atomic_store_n(&state->error, error, __ATOMIC_RELAXED);
	__atomic_store_n(&state->nth, nth, __ATOMIC_RELEASE);
}

uint64_t fail_shim_calls(struct shim *shim)
{
	return __atomic_load_n(&state_of(shim)->calls, __ATOMIC_RELAXED);
}

bool fail_shim_fired(struct shim *shim)
{
	return __atomic_load_n(&state_of(shim)->fired, __ATOMIC_RELAXED);
}
