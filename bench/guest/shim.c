/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of the iommufd shim against the calls that they come down to, in the same context,
 * on the same table and device.
 */
#include "guest.h"

#include "raw.h"

#include "iommufd/iommufd.h"
#include "iommufd/internal.h"

#include <stdio.h>
#include <unistd.h>

static char reason[SHIM_REASON_MAX];

static void must(int r, const char *what)
{
	if (r)
		die("%s: %d %s", what, r, reason);
}

struct bench {
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim_mem *mem;
	struct shim_pt *pt;
	struct raw raw;
	int fd;
};

static double map_us(struct bench *bench, bool by_shim, uint64_t length)
{
	struct shim_map map = {
		.iova = BASE, .length = length, .mem = bench->mem, .prot = SHIM_READ | SHIM_WRITE};
	struct shim_unmap unmap = {BASE, length};
	uint64_t start = now_ns();
	size_t done;

	if (!by_shim)
		return raw_pair_us(&bench->raw, bench->fd, length, 1);
	must(shim_pt_map(bench->pt, &map, 1, NULL), "map");
	must(shim_pt_unmap(bench->pt, &unmap, 1, &done), "unmap");
	return (double)(now_ns() - start) / 1e3;
}

static double attach_us(struct bench *bench, bool by_shim, uint64_t length)
{
	uint64_t start = now_ns();

	if (by_shim) {
		must(shim_detach(bench->dev, SHIM_NO_PASID), "detach");
		must(shim_attach(bench->dev, SHIM_NO_PASID, bench->pt, reason), "attach");
	} else {
		must(raw_detach(bench->raw.cdev), "detach");
		must(raw_attach(bench->raw.cdev, bench->raw.ioas), "attach");
	}
	return (double)(now_ns() - start) / 1e3;
}

static void figure(struct bench *bench,
		   double (*pair_us)(struct bench *bench, bool by_shim, uint64_t length),
		   uint64_t length, const char *name)
{
	double ratios[ROUNDS], raws[ROUNDS], shims[ROUNDS];
	double raw[TURNS], shim[TURNS];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < TURNS; i++) {
			raw[i] = pair_us(bench, false, length);
			shim[i] = pair_us(bench, true, length);
		}
		raws[round] = median(raw, TURNS);
		shims[round] = median(shim, TURNS);
		ratios[round] = shims[round] / raws[round];
	}
	printf("P7  %s: raw %.1f us, by the shim %.1f us\n", name, median(raws, ROUNDS),
	       median(shims, ROUNDS));
	print_ratio("shim / raw", ratios, 1.05);
}

void shim_figures(const char *keeper, const char *edu)
{
	struct iommufd_options options = {.keeper_socket = keeper};
	struct iommufd_problem problem = {0};
	struct bench bench = {.fd = memory_new(LARGE)};
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL,
				    .format = SHIM_FORMAT_KERNEL_CHOSEN,
				    .devices = &bench.dev,
				    .n_devices = 1};
	struct shim *shim;

	if (iommufd_shim_new(&options, &shim, &problem))
		die("the shim: %s", problem.message);
	must(shim_ctx_new(shim, "bench", reason, &bench.ctx), "a context");
	must(shim_dev_bind_one(bench.ctx, edu, reason, &bench.dev), "a device");
	must(shim_mem_register(bench.ctx, bench.fd, 0, LARGE, SHIM_READ | SHIM_WRITE, &bench.mem),
	     "memory");
	must(shim_pt_create(bench.ctx, &spec, reason, &bench.pt), "a table");
	must(shim_attach(bench.dev, SHIM_NO_PASID, bench.pt, reason), "attach");
	bench.raw = (struct raw){
		.iommufd = iommufd_ctx_of(bench.ctx)->fd,
		.cdev = iommufd_dev_of(bench.dev)->fd,
		.ioas = iommufd_pt_of(bench.pt)->ioas,
	};
	figure(&bench, map_us, LARGE, "Map+Unmap 2M");
	figure(&bench, map_us, SMALL, "Map+Unmap 4K");
	figure(&bench, attach_us, 0, "Detach+Attach");
	shim_ctx_free(bench.ctx);
	shim_free(shim);
	close(bench.fd);
}
