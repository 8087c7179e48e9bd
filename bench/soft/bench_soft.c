/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Figures of the software IOMMU.  Each is a ratio to a baseline that the same run takes,
 * alternating with what it is compared to, the median of ROUNDS; a ratio says something on
 * a busy machine too, an absolute time does not.  Nothing here passes or fails.
 *
 *	1 a hit in the IOTLB / 4 dependent loads from the first-level cache
 *	2 a miss, walked through 4 levels of tables that exceed the last-level cache / a
 *	  chase of 4 random pointers through as much memory; and, stricter, / the bare loads
 *	  of the same 4 entries
 *	3 mapping many 4K pages / memset of as many bytes as their tables have, once with
 *	  memory that the system must give first, once with memory that is there
 *	4 DMA over 2M pages, bytes a second / memcpy, 64 MiB
 *
 * Below them, what the parts of a DMA cost by themselves.
 */

#include "soft/build.h"
#include "soft/internal.h"

#include "measure.h"

#include <string.h>
#include <unistd.h>

/* What both sides cost, and how they compare, by the median of the rounds' ratios. */
static void print(const char *what, const char *unit, double *ours, double *base, double *ratios,
		  const char *goal)
{
	printf("%-52s %9.2f / %9.2f %-5s = %5.2f   goal %s\n", what, median(ours), median(base),
	       unit, median(ratios), goal);
}

/* ---- a host ---- */

struct host {
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim_mem *mem;
	struct shim_pt *pt;
	uint8_t *bytes;
	uint64_t length;
	int fd;
};

static void host_open(struct host *h, uint64_t length, bool touch)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_X86_64_4L};

	h->length = length;
	h->fd = memfd_create("bench", MFD_CLOEXEC);
	must(h->fd >= 0 && !ftruncate(h->fd, (off_t)length), "memfd");
	h->bytes = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, h->fd, 0);
	must(h->bytes != MAP_FAILED, "mmap");
	if (touch)
		memset(h->bytes, 1, length);
	must(!soft_shim_new(NULL, NULL, &h->shim, NULL), "soft_shim_new");
	must(!shim_ctx_new(h->shim, "org", NULL, &h->ctx), "ctx_new");
	must(!shim_dev_bind_one(h->ctx, "0000:01:00.0", NULL, &h->dev), "dev_bind");
	must(!shim_mem_register(h->ctx, h->fd, 0, length, SHIM_READ | SHIM_WRITE, &h->mem),
	     "mem_register");
	must(!shim_pt_create(h->ctx, &spec, NULL, &h->pt), "pt_create");
	must(!shim_attach(h->dev, SHIM_NO_PASID, h->pt, NULL), "attach");
}

static void host_close(struct host *h)
{
	shim_ctx_free(h->ctx);
	shim_free(h->shim);
	munmap(h->bytes, h->length);
	close(h->fd);
}

static int host_map(struct host *h, uint64_t iova, uint64_t length, uint64_t offset)
{
	struct shim_map map = {
		.iova = iova,
		.length = length,
		.mem = h->mem,
		.offset = offset,
		.prot = SHIM_READ | SHIM_WRITE,
	};

	return shim_pt_map(h->pt, &map, 1, NULL);
}

/* ---- 1: a hit ---- */

#define HITS  (1u << 20)
#define PAGES 64u

static void bench_hit(void)
{
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	struct soft_iotlb iotlb;
	uint64_t chain[4 * PAGES];

	must(!soft_iotlb_init(&iotlb, 1024), "soft_iotlb_init");
	for (uint64_t i = 0; i < PAGES; i++)
		soft_iotlb_insert(&iotlb, 42, SOFT_WHO_NOBODY, i * K4, (i + 1000) * K4, K4,
				  SHIM_READ);
	/* Each element holds the index of the next: one cycle through all of them. */
	for (uint64_t i = 0; i < 4 * PAGES; i++)
		chain[i] = (i + 37) % (4 * PAGES);
	for (int r = 0; r < ROUNDS; r++) {
		double start = now_ns();
		uint64_t at = 0;

		for (uint64_t i = 0; i < HITS; i++) {
			uint64_t output, size;
			uint32_t prot;

			/* The next address depends on this answer: latency, not throughput. */
			if (!soft_iotlb_lookup(&iotlb, 42, SOFT_WHO_NOBODY, at, &output, &size,
					       &prot))
				must(false, "hit");
			at = (output - 1000 * K4 + K4) & (PAGES - 1) << 12;
		}
		use(at);
		ours[r] = (now_ns() - start) / HITS;

		start = now_ns();
		at = 0;
		for (uint64_t i = 0; i < HITS; i++) {
			at = chain[at];
			at = chain[at];
			at = chain[at];
			at = chain[at];
			use(at);
		}
		base[r] = (now_ns() - start) / HITS;
		ratios[r] = ours[r] / base[r];
	}
	soft_iotlb_deinit(&iotlb);
	print("1 IOTLB hit / 4 dependent cached loads", "ns", ours, base, ratios, "<= 1.0");
}

/* ---- 2: a miss ---- */

#define MISSES 200000u
/*
 * One page in each 2M of the input, so each has a lowest table of its own: 131072 of them
 * are 512 MiB of tables.
 */
#define LEAVES 131072u

/* Which page of its 2M is mapped: anywhere in the table, but known without a look-up. */
static uint64_t miss_address(uint64_t leaf)
{
	return leaf * M2 + ((leaf * 2654435761u) >> 7 & 511) * K4;
}

static double time_walks(const struct soft_stage *stages, unsigned int n_stages)
{
	double start = now_ns();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < MISSES; i++) {
		/* Each address depends on the answer before. */
		uint64_t at = miss_address((rnd() + (sum >> 12 & 1)) % LEAVES);
		struct soft_translation where;
		struct shim_fault fault;

		must(soft_walk(stages, n_stages, at, SHIM_READ | SOFT_USER, NULL, &where, &fault),
		     "walk");
		sum += where.output;
	}
	use(sum);
	return (now_ns() - start) / MISSES;
}

/* The loads that the walk makes, and nothing else: no checks, no permissions. */
static double time_bare(const struct soft_window *window, uint64_t root)
{
	double start = now_ns();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < MISSES; i++) {
		uint64_t at = miss_address((rnd() + (sum >> 12 & 1)) % LEAVES), table = root;

		for (unsigned int level = 4; level; level--)
			table = ((const uint64_t *)soft_window_pointer(
					window, table))[at >> (3 + 9 * level) & 511] &
				0x000ffffffffff000ull;
		sum += table;
	}
	use(sum);
	return (now_ns() - start) / MISSES;
}

static double time_chase(const uint64_t *chase)
{
	double start = now_ns();
	uint64_t at = 0, sum = 0;

	for (uint32_t i = 0; i < MISSES; i++) {
		sum += miss_address(rnd() % LEAVES);
		at = chase[at];
		at = chase[at];
		at = chase[at];
		at = chase[at];
	}
	use(at + sum);
	return (now_ns() - start) / MISSES;
}

static void bench_miss(void)
{
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	double again[ROUNDS], bare[ROUNDS], bare_ratios[ROUNDS];
	struct soft_stage stages[SOFT_STAGES_MAX];
	uint64_t table_bytes, *chase;
	unsigned int n_stages;
	struct soft_pt *pt;
	struct host h;

	host_open(&h, M2, true);
	for (uint64_t i = 0; i < LEAVES; i++)
		must(!host_map(&h, miss_address(i), K4, 0), "map");
	pt = soft_pt_of(h.pt);
	table_bytes = shim_pt_table_bytes(h.pt);
	n_stages = soft_pt_stages(pt, &soft_shim_of(h.shim)->iommus[0], SOFT_WHO_NOBODY, stages);
	chase = make_chase(table_bytes);
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = again[r] = time_walks(stages, n_stages);
		base[r] = time_chase(chase);
		bare[r] = time_bare(&soft_shim_of(h.shim)->window, pt->root);
		ratios[r] = ours[r] / base[r];
		bare_ratios[r] = ours[r] / bare[r];
	}
	munmap(chase, table_bytes);
	printf("  (tables: %llu MiB)\n", (unsigned long long)(table_bytes >> 20));
	print("2 miss, 4 levels / chase of 4 random pointers", "ns", ours, base, ratios, "<= 1.3");
	print("  miss, 4 levels / bare loads of the same entries", "ns", again, bare, bare_ratios,
	      "-");
	host_close(&h);
}

/* ---- 3: bulk map ---- */

static void bench_map(uint64_t length, bool fresh, const char *what)
{
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	uint64_t table_bytes = 0, plain_bytes = length / 256;
	uint8_t *plain;
	struct host h;

	/* Out of step by a page, so that no large page fits: 1 GiB takes 2 MiB of tables. */
	host_open(&h, length + K4, false);
	plain = mmap(NULL, plain_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(plain != MAP_FAILED, "mmap");
	/* Tables are in small pages, so this is too. */
	(void)madvise(plain, plain_bytes, MADV_NOHUGEPAGE);
	memset(plain, 1, plain_bytes);
	for (int r = -1; r < ROUNDS; r++) {
		struct shim_unmap unmap = {0, length};
		double start, map_ns;
		size_t done;

		start = now_ns();
		must(!host_map(&h, 0, length, K4), "map");
		map_ns = now_ns() - start;
		table_bytes = shim_pt_table_bytes(h.pt);
		must(!shim_pt_unmap(h.pt, &unmap, 1, &done), "unmap");
		if (r < 0)
			continue; /* the first round only warms up */

		if (fresh)
			madvise(plain, plain_bytes, MADV_DONTNEED);
		start = now_ns();
		memset(plain, r + 1, table_bytes);
		base[r] = (now_ns() - start) / 1e6;
		ours[r] = map_ns / 1e6;
		use(plain[rnd() % table_bytes]);
		ratios[r] = ours[r] / base[r];
	}
	printf("  (tables: %.1f MiB)\n", (double)table_bytes / (1 << 20));
	print(what, "ms", ours, base, ratios, "<= 2");
	munmap(plain, plain_bytes);
	host_close(&h);
}

/* ---- 4: DMA ---- */

static void bench_dma(uint64_t length, uint64_t page, const char *what, const char *goal)
{
	double ours[ROUNDS], base[ROUNDS], ratios[ROUNDS];
	uint8_t *buf =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct host h;

	must(buf != MAP_FAILED, "mmap");
	memset(buf, 2, length);
	host_open(&h, 2 * length, true);
	must(!host_map(&h, 0, length, page == K4 ? K4 : 0), "map");
	for (int r = 0; r < ROUNDS; r++) {
		struct shim_fault fault;
		size_t done;
		double start;

		start = now_ns();
		must(!shim_dma(h.dev, SHIM_NO_PASID, SHIM_READ, 0, buf, length, &done, &fault) &&
			     done == length,
		     "dma");
		ours[r] = (double)length / (now_ns() - start);

		start = now_ns();
		memcpy(buf, h.bytes, length);
		base[r] = (double)length / (now_ns() - start);
		use(buf[rnd() % length]);
		ratios[r] = ours[r] / base[r];
	}
	print(what, "GB/s", ours, base, ratios, goal);
	host_close(&h);
	munmap(buf, length);
}

/* ---- the rest ---- */

static void bench_small(void)
{
	enum { N = 20000 };
	struct shim_fault fault;
	struct host h;
	uint8_t buf[4096];
	double start;
	size_t done;

	host_open(&h, 64 * M2, true);
	start = now_ns();
	for (uint64_t i = 0; i < N; i++) {
		struct shim_unmap unmap = {i % 512 * K4, K4};

		must(!host_map(&h, unmap.iova, K4, 0), "map");
		must(!shim_pt_unmap(h.pt, &unmap, 1, &done), "unmap");
	}
	printf("  map + unmap of one 4K page            %9.0f ns\n", (now_ns() - start) / N);
	must(!host_map(&h, 0, M2, 0), "map");
	for (uint64_t i = 0; i < 512; i++) /* the window's own pages, on first touch */
		shim_dma(h.dev, SHIM_NO_PASID, SHIM_READ, i * K4, buf, 64, &done, &fault);
	start = now_ns();
	for (uint64_t i = 0; i < N; i++)
		shim_dma(h.dev, SHIM_NO_PASID, SHIM_READ, i % 512 * K4, buf, 64, &done, &fault);
	printf("  DMA of 64 bytes                        %9.0f ns\n", (now_ns() - start) / N);
	start = now_ns();
	for (uint64_t i = 0; i < N; i++)
		shim_dma(h.dev, SHIM_NO_PASID, SHIM_READ, i % 512 * K4, buf, 4096, &done, &fault);
	printf("  DMA of 4096 bytes                      %9.0f ns\n", (now_ns() - start) / N);
	start = now_ns();
	for (uint64_t i = 0; i < N; i++) {
		shim_detach(h.dev, SHIM_NO_PASID);
		shim_attach(h.dev, SHIM_NO_PASID, h.pt, NULL);
	}
	printf("  detach + attach                        %9.0f ns\n", (now_ns() - start) / N);
	host_close(&h);
}

static void bench_many(void)
{
	enum { N = 200000 };
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_X86_64_4L};
	struct shim_pt *pt;
	struct host h;
	double start;

	host_open(&h, M2, true);
	start = now_ns();
	for (int i = 0; i < N; i++)
		must(!shim_pt_create(h.ctx, &spec, NULL, &pt), "pt_create");
	printf("  pt_create, %d live                 %9.0f ns, %zu bytes each\n", N,
	       (now_ns() - start) / N, sizeof(struct soft_pt));
	start = now_ns();
	shim_ctx_free(h.ctx);
	printf("  ctx_free, for each of them             %9.0f ns\n", (now_ns() - start) / N);
	shim_free(h.shim);
	munmap(h.bytes, h.length);
	close(h.fd);
}

int main(void)
{
	bench_hit();
	bench_miss();
	bench_map(32 * G1, true, "3 bulk map of 4K pages / memset, memory to be given");
	bench_map(3 * G1, false, "3 bulk map of 4K pages / memset, memory that is there");
	bench_dma(64ull << 20, M2, "4 DMA over 2M pages / memcpy, 64 MiB", ">= 0.8");
	bench_dma(64ull << 20, K4, "  DMA over 4K pages / memcpy, 64 MiB", "-");
	printf("parts:\n");
	bench_small();
	bench_many();
	return 0;
}
