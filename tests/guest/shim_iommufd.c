/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_iommufd SOCKET EDU_A EDU_B GROUP_A GROUP_B: the iommufd shim with a real keeper, on a
 * real kernel and VT-d, with true DMA.  Runs without privilege, as ioasidd does: everything it
 * has, it has from the keeper.
 *
 * It speaks to the shim through shim.h alone, but for what a hostile tenant does with the
 * descriptor of its device, for which it uses the raw calls.
 *
 * Memory of each tenant is one memfd; pages 0 to 3 are mapped at BASE.  After every move that
 * must be refused the whole file is compared with a copy taken before.
 */
#include "edu.h"
#include "raw.h"
#include "report.h"

#include "iommufd/iommufd.h"
#include "iommufd/internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define PAGE   4096u
#define PAGES  8u
#define MAPPED 4u
#define SIZE   (PAGES * PAGE)
#define BASE   0x140000000ull
#define RW     (SHIM_READ | SHIM_WRITE)

static struct shim *shim;
static char reason[SHIM_REASON_MAX];

/* 0, or a negative errno for report.h; a SHIM_E_* is told on its own line. */
static int plain(int r)
{
	if (r > 0)
		printf("SHIM_E %d: %s\n", r, reason);
	return r > 0 ? -EPROTO : r;
}

static void expect(int r, int expected, const char *name)
{
	char why[256];

	snprintf(why, sizeof(why), "%d, not %d (%s)", r, expected, reason);
	report(r == expected, name, why);
}

/* ---- a tenant ---- */

struct tenant {
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim_mem *mem;
	int memfd;
	unsigned char *bytes;
	unsigned char before[SIZE];
	int cdev;
	struct edu edu;
};

static void fill(struct tenant *t, unsigned n)
{
	unsigned char *p = t->bytes + n * PAGE;

	if (getrandom(p, PAGE, 0) != PAGE)
		need(-EIO, "random bytes");
	/* A refused read leaves zeros in the device: none of ours. */
	for (unsigned i = 0; i < PAGE; i++)
		p[i] |= 1;
}

static void tenant_device(struct tenant *t, const char *address)
{
	need(plain(shim_dev_bind_one(t->ctx, address, reason, &t->dev)), "claim and bind");
	need(plain(shim_dev_fd(t->dev, &t->cdev)), "the device's descriptor");
	need(edu_open(t->cdev, &t->edu), "it is an edu");
}

static void tenant_open(struct tenant *t, const char *address)
{
	memset(t, 0, sizeof(*t));
	need(plain(shim_ctx_new(shim, address, reason, &t->ctx)), "a context");
	t->memfd = memfd_create("tenant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	need(t->memfd < 0 || ftruncate(t->memfd, SIZE) ? -errno : 0, "memory");
	t->bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t->memfd, 0);
	need(t->bytes == MAP_FAILED ? -errno : 0, "see it");
	for (unsigned i = 0; i < PAGES; i++)
		fill(t, i);
	need(plain(shim_mem_register(t->ctx, t->memfd, 0, SIZE, RW, &t->mem)), "register memory");
	tenant_device(t, address);
}

/* What a tenant that goes lets go of; the context is the caller's to end. */
static void tenant_let_go(struct tenant *t)
{
	edu_close(&t->edu);
	if (t->cdev >= 0)
		close(t->cdev);
	t->cdev = -1;
}

static void tenant_close(struct tenant *t, const char *address)
{
	shim_ctx_free(t->ctx);
	tenant_let_go(t);
	expect(shim_dev_is_free(shim, address), 0, "its device is free");
	munmap(t->bytes, SIZE);
	close(t->memfd);
}

static struct shim_pt *table(struct tenant *t, enum shim_format format)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL, .format = format, .devices = &t->dev, .n_devices = 1};
	struct shim_pt *pt = NULL;

	need(plain(shim_pt_create(t->ctx, &spec, reason, &pt)), "a page table");
	return pt;
}

static int map(struct tenant *t, struct shim_pt *pt, uint64_t iova, uint64_t length, uint32_t prot)
{
	struct shim_map m = {.iova = iova, .length = length, .mem = t->mem, .prot = prot};

	return shim_pt_map(pt, &m, 1, NULL);
}

static int unmap(struct shim_pt *pt, uint64_t iova, uint64_t length)
{
	struct shim_unmap u = {iova, length};
	size_t done;

	return shim_pt_unmap(pt, &u, 1, &done);
}

/* Page from goes to page to, through the device. */
static void moves(struct tenant *t, unsigned from, unsigned to, const char *name)
{
	fill(t, from);
	need(edu_to_device(&t->edu, BASE + from * PAGE, EDU_MAX), "the device reads");
	need(edu_from_device(&t->edu, BASE + to * PAGE, EDU_MAX), "the device writes");
	report(!memcmp(t->bytes + from * PAGE, t->bytes + to * PAGE, EDU_MAX), name,
	       "bytes differ");
}

/* The device has page 0's bytes in its buffer, and must not get them out. */
static void refuses(struct tenant *t, uint64_t iova, const char *name)
{
	memcpy(t->before, t->bytes, SIZE);
	need(edu_from_device(&t->edu, iova, EDU_FAULT_MAX), "the device is done");
	report(!memcmp(t->before, t->bytes, SIZE), name, "memory has changed");
}

/* Reading is blocked too: what the device then writes is not what the memory holds. */
static void reads_nothing(struct tenant *t, uint64_t iova, unsigned holds, const char *name)
{
	need(edu_to_device(&t->edu, iova, EDU_FAULT_MAX), "the device reads");
	memset(t->bytes + PAGE, 0xee, PAGE);
	need(edu_from_device(&t->edu, BASE + PAGE, EDU_FAULT_MAX), "the device writes");
	report(memcmp(t->bytes + PAGE, t->bytes + holds * PAGE, EDU_FAULT_MAX) &&
		       t->bytes[PAGE] != 0xee,
	       name, "the device has the bytes");
}

/* ---- checks ---- */

static enum shim_format inventory(const char *address)
{
	const struct shim_device_info *info = NULL;

	printf("%s\n", iommufd_shim_describe(shim));
	for (size_t i = 0; i < shim_device_count(shim); i++) {
		const struct shim_device_info *d = shim_device_info(shim, i);

		printf("%s: %04x:%04x class %06x group %u %s driver '%s' host use '%s', %zu "
		       "formats,"
		       " first %d of %u bits, pages %llx\n",
		       d->address, d->vendor, d->device, d->class_code, d->group, d->iommu,
		       d->driver, d->host_use, d->caps.n_formats, d->caps.formats[0].format,
		       d->caps.formats[0].input_bits,
		       (unsigned long long)d->caps.formats[0].page_sizes);
		if (!strcmp(d->address, address))
			info = d;
		report(d->class_code >> 8 != 0x604 && d->class_code >> 8 != 0x600,
		       "no bridge in the inventory", d->address);
	}
	report(info != NULL, "the edu is in the inventory", "it is not");
	if (!info)
		exit(1);
	report(info->vendor == 0x1234 && info->device == 0x11e8, "with its ids", "others");
	report(!info->host_use[0], "the host does not use it", info->host_use);
	report(info->caps.n_reserved >= 1 && !strcmp(info->caps.reserved[0].use, "msi") &&
		       info->caps.reserved[0].start == 0xfee00000,
	       "its interrupt window is reserved", "it is not");
	report(info->caps.n_formats && info->caps.formats[info->caps.n_formats - 1].format ==
					       SHIM_FORMAT_KERNEL_CHOSEN,
	       "kernel-chosen is offered", "it is not");
	printf("nesting: %s\n", info->caps.feature_absent[SHIM_FEATURE_NESTING]);
	report(info->caps.kind_absent[SHIM_KIND_USER][0] != 0, "kind USER is absent with a reason",
	       "no reason");
	return info->caps.formats[0].format;
}

static void one_tenant(const char *address, enum shim_format format)
{
	struct shim_pt *a, *b, *c;
	struct tenant t;

	tenant_open(&t, address);
	a = table(&t, format);
	b = table(&t, SHIM_FORMAT_KERNEL_CHOSEN);
	need(plain(map(&t, a, BASE, MAPPED * PAGE, RW)), "map four pages");
	refuses(&t, BASE, "no DMA before attach");
	need(plain(shim_attach(t.dev, SHIM_NO_PASID, a, reason)), "attach");
	expect(shim_attach(t.dev, SHIM_NO_PASID, a, reason), SHIM_E_ATTACHED, "attach twice");
	moves(&t, 0, 1, "bytes go through the device");
	moves(&t, 3, 2, "and through another pair of pages");
	refuses(&t, BASE + MAPPED * PAGE, "no write behind the mapping");
	reads_nothing(&t, BASE + MAPPED * PAGE, MAPPED, "no read behind the mapping");

	expect(map(&t, a, BASE + PAGE, PAGE, RW), SHIM_E_OVERLAP, "overlap");
	expect(map(&t, a, 0xfee00000, PAGE, RW), SHIM_E_RANGE, "the interrupt window");
	expect(map(&t, a, 1ull << 57, PAGE, RW), SHIM_E_RANGE, "beyond the width");
	expect(unmap(a, BASE, PAGE), SHIM_E_NO_MAPPING, "a part of a mapping");
	expect(unmap(a, BASE + MAPPED * PAGE, PAGE), SHIM_E_NO_MAPPING, "no mapping");
	moves(&t, 0, 1, "nothing of that changed anything");

	need(plain(shim_replace(t.dev, SHIM_NO_PASID, b, reason)), "replace by an empty table");
	refuses(&t, BASE, "no DMA through the empty table");
	need(plain(map(&t, b, BASE, PAGE, SHIM_READ)), "a page to be read, while attached");
	need(edu_to_device(&t.edu, BASE, EDU_MAX), "the device reads it");
	refuses(&t, BASE, "no write through it");
	expect(shim_replace(t.dev, 5, a, reason), SHIM_E_NOT_ATTACHED, "replace what is not there");
	expect(shim_attach(t.dev, 5, a, reason), SHIM_E_UNSUPPORTED, "no PASIDs here");
	need(plain(shim_replace(t.dev, SHIM_NO_PASID, a, reason)), "and back");
	moves(&t, 0, 1, "bytes go through the device again");

	/* Over a translation that the IOTLB has seen a moment ago. */
	need(plain(unmap(a, BASE, MAPPED * PAGE)), "unmap");
	refuses(&t, BASE, "no DMA after unmap");
	need(plain(map(&t, a, BASE, MAPPED * PAGE, RW)), "map again");
	moves(&t, 2, 3, "bytes go through the device once more");
	need(plain(shim_detach(t.dev, SHIM_NO_PASID)), "detach");
	refuses(&t, BASE, "no DMA after detach");
	expect(shim_detach(t.dev, SHIM_NO_PASID), SHIM_E_NOT_ATTACHED, "detach twice");

	/* A table with fewer bits than the hardware has. */
	need(plain(shim_pt_create(t.ctx,
				  &(struct shim_pt_spec){.kind = SHIM_KIND_KERNEL,
							 .format = format,
							 .input_bits = 33},
				  reason, &c)),
	     "a table of 33 bits");
	need(plain(shim_attach(t.dev, SHIM_NO_PASID, c, reason)), "attach to it");
	expect(map(&t, c, 1ull << 33, PAGE, RW), SHIM_E_RANGE, "33 bits are not exceeded");
	need(plain(map(&t, c, BASE, MAPPED * PAGE, RW)), "map below");
	moves(&t, 0, 1, "bytes go through that one");
	need(plain(shim_detach(t.dev, SHIM_NO_PASID)), "detach");
	shim_pt_destroy(c);
	shim_pt_destroy(b);
	tenant_close(&t, address);
}

static void two_tenants(const char *address_a, const char *address_b)
{
	struct shim_pt *pt_a, *pt_b;
	struct shim_dev *other = NULL;
	struct tenant a, b;

	tenant_open(&a, address_a);
	tenant_open(&b, address_b);
	expect(shim_dev_bind_one(b.ctx, address_a, reason, &other), SHIM_E_DEVICE_BUSY,
	       "another's device");
	pt_a = table(&a, SHIM_FORMAT_KERNEL_CHOSEN);
	need(plain(map(&a, pt_a, BASE, MAPPED * PAGE, RW)), "a maps");
	need(plain(shim_attach(a.dev, SHIM_NO_PASID, pt_a, reason)), "a attaches");
	/* By the same numbers, with its own descriptor: in b's context they name nothing. */
	for (uint32_t id = 0; id < 8; id++)
		if (raw_attach(b.cdev, id) != -ENOENT && id)
			report(raw_attach(b.cdev, id) < 0, "b attaches to a's table by itself",
			       "it can");
	refuses(&b, BASE, "b reaches nothing of its own yet");
	memcpy(a.before, a.bytes, SIZE);
	need(edu_from_device(&b.edu, BASE, EDU_FAULT_MAX), "b's device writes");
	report(!memcmp(a.before, a.bytes, SIZE), "b does not reach a's memory", "it does");
	pt_b = table(&b, SHIM_FORMAT_KERNEL_CHOSEN);
	need(plain(map(&b, pt_b, BASE, MAPPED * PAGE, RW)), "b maps at the same addresses");
	need(plain(shim_attach(b.dev, SHIM_NO_PASID, pt_b, reason)), "b attaches");
	memcpy(a.before, a.bytes, SIZE);
	moves(&b, 0, 1, "b moves its own bytes");
	report(!memcmp(a.before, a.bytes, SIZE), "and none of a's", "a's memory changed");
	moves(&a, 0, 1, "a moves its own bytes");
	expect(shim_replace(b.dev, SHIM_NO_PASID, pt_a, reason), -EINVAL,
	       "the shim does not mix them");
	tenant_close(&b, address_b);
	moves(&a, 2, 3, "a goes on when b has ended");
	tenant_close(&a, address_a);
}

/* Released, while the tenant has its descriptor and registers still. */
static void held(const char *address)
{
	struct shim_dev *again = NULL;
	struct shim_pt *pt;
	struct tenant t, next;

	tenant_open(&t, address);
	pt = table(&t, SHIM_FORMAT_KERNEL_CHOSEN);
	need(plain(map(&t, pt, BASE, MAPPED * PAGE, RW)), "map");
	need(plain(shim_attach(t.dev, SHIM_NO_PASID, pt, reason)), "attach");
	moves(&t, 0, 1, "a tenant at work");
	shim_dev_release(t.dev);
	refuses(&t, BASE, "released: no DMA, though its descriptor is held");
	expect(shim_dev_is_free(shim, address), SHIM_E_DEVICE_BUSY, "it is not free");
	expect(shim_dev_bind_one(t.ctx, address, reason, &again), SHIM_E_DEVICE_BUSY,
	       "and claimed by nobody");
	/* The holder's own attach reaches its own lease's table, until that ends. */
	report(raw_attach(t.cdev, iommufd_pt_of(pt)->ioas) == 0, "its holder may attach it", "no");
	shim_ctx_free(t.ctx);
	refuses(&t, BASE, "the context ended: no DMA");
	for (uint32_t id = 1; id < 8; id++)
		(void)raw_attach(t.cdev, id);
	refuses(&t, BASE, "and none by attaching to whatever is left");
	expect(shim_dev_is_free(shim, address), SHIM_E_DEVICE_BUSY, "it is not free yet");
	tenant_let_go(&t);
	expect(shim_dev_is_free(shim, address), 0, "let go: it is free");
	tenant_open(&next, address);
	pt = table(&next, SHIM_FORMAT_KERNEL_CHOSEN);
	need(plain(map(&next, pt, BASE, MAPPED * PAGE, RW)), "the next one maps");
	need(plain(shim_attach(next.dev, SHIM_NO_PASID, pt, reason)), "and attaches");
	moves(&next, 0, 1, "and works");
	tenant_close(&next, address);
	munmap(t.bytes, SIZE);
	close(t.memfd);
}

/*
 * On a bus with another function the kernel lists a way to reset it and then has none
 * (ENOTTY).  What follows from that is the keeper's to say; its log tells.
 */
static void free_again(const char *address)
{
	int r = shim_dev_is_free(shim, address);

	if (r == SHIM_E_DEVICE_BUSY)
		printf("skip %s is free again: the keeper does not give it on\n", address);
	else
		expect(r, 0, "it is free again");
}

static void group(const char *address_a, const char *address_b)
{
	const char *both[] = {address_a, address_b};
	struct shim_dev *devs[2] = {0};
	struct tenant t = {.cdev = -1};
	struct shim_pt *a, *b;

	need(plain(shim_ctx_new(shim, "group", reason, &t.ctx)), "a context");
	expect(shim_dev_bind(t.ctx, both, 1, reason, devs), SHIM_E_REFUSED, "half a group");
	printf("%s\n", reason);
	need(plain(shim_dev_bind(t.ctx, both, 2, reason, devs)), "a whole group");
	t.dev = devs[0];
	a = table(&t, SHIM_FORMAT_KERNEL_CHOSEN);
	b = table(&t, SHIM_FORMAT_KERNEL_CHOSEN);
	need(plain(shim_attach(devs[0], SHIM_NO_PASID, a, reason)), "one attaches");
	expect(shim_attach(devs[1], SHIM_NO_PASID, b, reason), SHIM_E_INCOMPATIBLE,
	       "the other to another table");
	printf("%s\n", reason);
	need(plain(shim_attach(devs[1], SHIM_NO_PASID, a, reason)), "both to one table");
	expect(shim_replace(devs[0], SHIM_NO_PASID, b, reason), SHIM_E_INCOMPATIBLE,
	       "replace of one alone");
	shim_dev_release(devs[1]);
	need(plain(shim_replace(devs[0], SHIM_NO_PASID, b, reason)), "replace of the last");
	shim_ctx_free(t.ctx);
	free_again(address_a);
	free_again(address_b);
}

/* ---- measures: printed, not judged ---- */

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void measure_one(struct tenant *t, struct shim_pt *pt, int fd, uint64_t size,
			const char *what)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(t->ctx);
	uint32_t ioas = iommufd_pt_of(pt)->ioas;
	unsigned n = size < 4u << 20 ? 200 : 3;
	double map_us = 0, unmap_us = 0;
	int r = 0;

	for (unsigned i = 0; !r && i < n; i++) {
		double start = now_us(), mapped;

		r = raw_map_file(ctx->fd, ioas, fd, 0, size, BASE, 1);
		mapped = now_us();
		if (!r)
			r = raw_unmap(ctx->fd, ioas, BASE, size);
		map_us += mapped - start;
		unmap_us += now_us() - mapped;
	}
	need(r, "map and unmap");
	printf("measure %s %llu KiB: %.1f us to map, %.1f us to unmap\n", what,
	       (unsigned long long)size >> 10, map_us / n, unmap_us / n);
}

static void measure(const char *address)
{
	static const uint64_t sizes[] = {4, 64, 2048, 16384, 65536, 262144, 524288};
	uint64_t most = 512ull << 20;
	struct shim_pt *pt;
	struct tenant t;
	int fd = memfd_create("large", MFD_CLOEXEC);
	double start;

	need(fd < 0 || ftruncate(fd, (off_t)most) ? -errno : 0, "a large memory");
	need(fallocate(fd, 0, 0, (off_t)most) ? -errno : 0, "filled");
	tenant_open(&t, address);
	pt = table(&t, SHIM_FORMAT_KERNEL_CHOSEN);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		measure_one(&t, pt, fd, sizes[i] << 10, "not attached");
	need(plain(shim_attach(t.dev, SHIM_NO_PASID, pt, reason)), "attach");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		measure_one(&t, pt, fd, sizes[i] << 10, "attached");
	start = now_us();
	for (int i = 0; i < 20; i++) {
		(void)shim_detach(t.dev, SHIM_NO_PASID);
		(void)shim_attach(t.dev, SHIM_NO_PASID, pt, reason);
	}
	printf("measure detach and attach, empty: %.0f us\n", (now_us() - start) / 20);
	start = now_us();
	tenant_close(&t, address);
	printf("measure end of a context with a device: %.0f us\n", now_us() - start);
	start = now_us();
	need(plain(shim_ctx_new(shim, "x", reason, &t.ctx)), "a context");
	printf("measure a context: %.0f us\n", now_us() - start);
	start = now_us();
	need(plain(shim_dev_bind_one(t.ctx, address, reason, &t.dev)), "a device");
	printf("measure claim and bind: %.0f us\n", now_us() - start);
	shim_ctx_free(t.ctx);
	close(fd);
}

int main(int argc, char **argv)
{
	struct iommufd_options options = {0};
	struct iommufd_problem problem = {0};
	enum shim_format format;
	int r;

	if (argc != 6 && argc != 4) {
		fprintf(stderr, "usage: shim_iommufd SOCKET EDU_A EDU_B GROUP_A GROUP_B\n"
				"       shim_iommufd --measure SOCKET EDU\n");
		return 2;
	}
	report(access("/dev/iommu", R_OK | W_OK) != 0, "without privilege", "with");
	options.keeper_socket = argv[argc == 4 ? 2 : 1];
	r = iommufd_shim_new(&options, &shim, &problem);
	report(!r, "the shim starts", problem.message);
	if (r)
		return 1;
	if (argc == 4) {
		measure(argv[3]);
	} else {
		format = inventory(argv[2]);
		one_tenant(argv[2], format);
		two_tenants(argv[2], argv[3]);
		held(argv[2]);
		group(argv[4], argv[5]);
	}
	shim_free(shim);
	return report_failed;
}
