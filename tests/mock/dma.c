/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Simulated DMA of mock devices: an access object on the IOAS that the device is attached to,
 * made for each call, so that it keeps no IOAS in use.  Where a table tracks dirty pages, what
 * was written is marked as the hardware would.
 *
 * DMA holds the device's lock; an attach or detach takes it after the kernel has moved the
 * device, and returns when DMA to the old place is over.
 */

#include "mock.h"
#include "mock_uapi.h"

#include <errno.h>
#include <stdlib.h>

#define PAGE UINT64_C(4096)

struct route {
	uint32_t pasid;
	uint32_t pt, ioas;
};

struct mock_routes {
	pthread_mutex_t lock;
	struct route *all;
	size_t n, room;
};

int mock_routes_new(struct mock_routes **ret_routes)
{
	struct mock_routes *routes = calloc(1, sizeof(*routes));

	if (!routes)
		return -ENOMEM;
	pthread_mutex_init(&routes->lock, NULL);
	*ret_routes = routes;
	return 0;
}

void mock_routes_free(struct mock_routes *routes)
{
	if (!routes)
		return;
	pthread_mutex_destroy(&routes->lock);
	free(routes->all);
	free(routes);
}

static struct route *find(struct mock_routes *routes, uint32_t pasid)
{
	for (size_t i = 0; i < routes->n; i++)
		if (routes->all[i].pasid == pasid)
			return &routes->all[i];
	return NULL;
}

bool mock_routes_has(struct mock_routes *routes, uint32_t pasid)
{
	bool has;

	pthread_mutex_lock(&routes->lock);
	has = find(routes, pasid);
	pthread_mutex_unlock(&routes->lock);
	return has;
}

int mock_routes_reserve(struct mock_routes *routes)
{
	struct route *grown;
	int r = 0;

	pthread_mutex_lock(&routes->lock);
	if (routes->n == routes->room) {
		size_t room = routes->room ? routes->room * 2 : 4;

		grown = realloc(routes->all, room * sizeof(*grown));
		if (grown) {
			routes->all = grown;
			routes->room = room;
		} else {
			r = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&routes->lock);
	return r;
}

void mock_routes_set(struct mock_routes *routes, uint32_t pasid, uint32_t pt, uint32_t ioas)
{
	struct route *route;

	pthread_mutex_lock(&routes->lock);
	route = find(routes, pasid);
	if (!route)
		route = &routes->all[routes->n++];
	*route = (struct route){pasid, pt, ioas};
	pthread_mutex_unlock(&routes->lock);
}

void mock_routes_clear(struct mock_routes *routes, uint32_t pasid)
{
	struct route *route;

	pthread_mutex_lock(&routes->lock);
	route = find(routes, pasid);
	if (route)
		*route = routes->all[--routes->n];
	pthread_mutex_unlock(&routes->lock);
}

bool mock_routes_pt(struct mock_routes *routes, uint32_t pasid, uint32_t *ret_pt)
{
	const struct route *route;

	pthread_mutex_lock(&routes->lock);
	route = find(routes, pasid);
	if (route)
		*ret_pt = route->pt;
	pthread_mutex_unlock(&routes->lock);
	return route;
}

size_t mock_routes_pasids(struct mock_routes *routes, uint32_t *ret_pasids, size_t room)
{
	size_t n = 0;

	pthread_mutex_lock(&routes->lock);
	for (size_t i = 0; i < routes->n; i++) {
		if (routes->all[i].pasid == SHIM_NO_PASID)
			continue;
		if (n < room)
			ret_pasids[n] = routes->all[i].pasid;
		n++;
	}
	pthread_mutex_unlock(&routes->lock);
	return n;
}

/* ---- DMA ---- */

static void mark_dirty(struct iommufd_ctx *ctx, const struct route *route, uint64_t iova)
{
	uint64_t bit = 1;
	struct mock_cmd cmd = {
		.id = route->pt,
		.dirty = {.iova = iova & ~(uint64_t)(MOCK_IO_PAGE - 1),
			  .length = MOCK_IO_PAGE,
			  .page_size = MOCK_IO_PAGE,
			  .bitmap = (uintptr_t)&bit},
	};

	/* EINVAL: it does not track. */
	if (route->pt != route->ioas)
		(void)mock_call(ctx, MOCK_OP_DIRTY, &cmd);
}

/* Within a page of the mock's. */
static int access_piece(struct iommufd_ctx *ctx, int fd, const struct route *route, bool write,
			uint64_t iova, void *buf, size_t len)
{
	struct mock_cmd cmd = {
		.id = (uint32_t)fd,
		.access_rw = {.iova = iova,
			      .length = len,
			      .bytes = (uintptr_t)buf,
			      .flags = write ? MOCK_ACCESS_WRITE : 0},
	};
	int r = mock_call(ctx, MOCK_OP_ACCESS_RW, &cmd);

	if (!r && write)
		mark_dirty(ctx, route, iova);
	return r;
}

static enum shim_fault_cause cause_of(int r)
{
	switch (r) {
	case -ENOENT:
		return SHIM_FAULT_NOT_PRESENT;
	case -EPERM:
		return SHIM_FAULT_PERMISSION;
	}
	return SHIM_FAULT_NONE;
}

static int access_all(struct iommufd_ctx *ctx, int fd, const struct route *route, uint32_t access,
		      uint64_t iova, void *buf, size_t len, size_t *ret_done,
		      struct shim_fault *ret_fault)
{
	size_t done = 0;

	*ret_fault = (struct shim_fault){0};
	while (done < len) {
		size_t room = MOCK_IO_PAGE - (size_t)((iova + done) % MOCK_IO_PAGE);
		size_t n = len - done < room ? len - done : room;
		int r = access_piece(ctx, fd, route, access == SHIM_WRITE, iova + done,
				     (char *)buf + done, n);

		if (r && !cause_of(r))
			return r;
		if (r) {
			*ret_fault = (struct shim_fault){
				.cause = cause_of(r),
				.stage = 1,
				.access = access,
				.address = (iova + done) & ~(PAGE - 1),
			};
			break;
		}
		done += n;
	}
	*ret_done = done;
	return 0;
}

int mock_dma(struct shim_dev *base, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
	     size_t len, size_t *ret_done, struct shim_fault *ret_fault)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	const struct iommufd_sys *sys = &iommufd_shim_of(base->shim)->sys;
	struct mock_routes *routes = dev->backend;
	struct mock_cmd cmd = {0};
	const struct route *route;
	int r;

	if (access != SHIM_READ && access != SHIM_WRITE)
		return SHIM_E_UNSUPPORTED;
	pthread_mutex_lock(&routes->lock);
	route = find(routes, pasid);
	if (!route) {
		*ret_done = 0;
		*ret_fault = (struct shim_fault){
			.cause = SHIM_FAULT_NOT_ATTACHED, .access = access, .address = iova};
		r = 0;
		goto out;
	}
	cmd.id = route->ioas;
	/* The mock walks no tenant's table. */
	r = route->ioas ? mock_call(dev->ctx, MOCK_OP_CREATE_ACCESS, &cmd) : SHIM_E_UNSUPPORTED;
	if (r)
		goto out;
	r = access_all(dev->ctx, (int)cmd.create_access.out_fd, route, access, iova, buf, len,
		       ret_done, ret_fault);
	sys->close(sys->user, (int)cmd.create_access.out_fd);
out:
	pthread_mutex_unlock(&routes->lock);
	return r;
}
