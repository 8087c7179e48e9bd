/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Arrays of invalidations in an architecture's own layout, of tables that tenants write.
 *
 * VT-d: struct iommu_hwpt_vtd_s1_invalidate of Linux; address 0 with all pages is everything.
 *
 * SMMUv3: commands of two words (Arm IHI 0070, 4.3 to 4.5), those that Linux's nesting lets through
 * (arm-smmu-v3-iommufd.c).  Opcode 7:0 of word 0.
 *	CFGI_CD		SSID 31:12; CFGI_CD_ALL
 *	TLBI_NH_ALL, TLBI_NSNH_ALL
 *	TLBI_NH_ASID	ASID 63:48
 *	TLBI_NH_VA	the same; word 1: bit 0 leaf, 11:10 TG, 63:12 address.  With TG: (NUM + 1)
 *			<< SCALE granules, NUM 16:12 and SCALE 24:20 of word 0
 *	TLBI_NH_VAA	for any ASID
 *	ATC_INV		word 1: 5:0 size (2^n pages of 4 KiB; 52: all), 63:12 address
 * Streams are not looked at: the table is one IOASID's, and so is what is cached of it.  The ASID
 * is that of a context descriptor; of a table that was bound without one, any.
 *
 * Words are little endian.  Each entry goes under ctx->flush for writing by itself, so that DMA
 * gets its turn.
 */

#include "soft/internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* ---- VT-d ---- */

struct vtd_s1 {
	uint64_t address;
	uint64_t pages; /* address 0 and UINT64_MAX: everything */
	uint32_t flags;
	uint32_t reserved;
};

#define VTD_S1_LEAF (1u << 0)

static int invalidate_vtd_s1(struct soft_pt *pt, const void *bytes)
{
	const struct vtd_s1 *entry = bytes;
	struct shim_invalidate range = {
		.scope = SHIM_INVALIDATE_RANGE,
		.iova = le64toh(entry->address),
		.leaf = le32toh(entry->flags) & VTD_S1_LEAF,
	};
	uint64_t pages = le64toh(entry->pages);

	if (le32toh(entry->flags) & ~VTD_S1_LEAF || entry->reserved || range.iova % SOFT_PAGE_SIZE)
		return -EINVAL;
	if (!range.iova && pages == UINT64_MAX) {
		if (!range.leaf)
			soft_flush_all(pt);
		else
			soft_flush_translations(pt, 0, UINT64_MAX);
		pt->flushes++;
		return 0;
	}
	if (__builtin_mul_overflow(pages, SOFT_PAGE_SIZE, &range.length))
		return -EINVAL;
	return soft_invalidate_one(pt, &range) ? -EINVAL : 0;
}

/* ---- SMMUv3 ---- */

#define CFGI_CD	      0x05
#define CFGI_CD_ALL   0x06
#define TLBI_NH_ALL   0x10
#define TLBI_NH_ASID  0x11
#define TLBI_NH_VA    0x12
#define TLBI_NH_VAA   0x13
#define TLBI_NSNH_ALL 0x30
#define ATC_INV	      0x40

#define SSID(w)	     ((uint32_t)((w) >> 12 & 0xfffff))
#define ASID(w)	     ((uint32_t)((w) >> 48))
#define NUM(w)	     ((w) >> 12 & 31)
#define SCALE(w)     ((w) >> 20 & 31)
#define TG(w)	     ((w) >> 10 & 3)
#define ADDRESS(w)   ((w) & ~0xfffull)
#define ATC_SIZE(w)  ((w)&63)
#define ATC_SIZE_ALL 52

struct smmuv3_command {
	uint64_t words[2];
};

/* The range of a TLBI by address. */
static void tlbi_range(const uint64_t words[2], uint64_t *ret_first, uint64_t *ret_last)
{
	static const uint8_t granules[4] = {12, 12, 14, 16};
	unsigned int shift = granules[TG(words[1])];
	uint64_t pages = TG(words[1]) ? (NUM(words[0]) + 1) << SCALE(words[0]) : 1;

	*ret_first = ADDRESS(words[1]);
	*ret_last = *ret_first + (pages << shift) - 1;
	if (*ret_last < *ret_first)
		*ret_last = UINT64_MAX;
}

/* Device TLBs only. */
static void atc_invalidate(struct soft_pt *pt, uint64_t word)
{
	uint64_t first = 0, last = UINT64_MAX;

	if (ATC_SIZE(word) < ATC_SIZE_ALL) {
		first = ADDRESS(word) & ~((4096ull << ATC_SIZE(word)) - 1);
		last = first + (4096ull << ATC_SIZE(word)) - 1;
	}
	for (struct soft_dev *dev = pt->ctx->devices; dev; dev = dev->next)
		if (dev->tlb.sets)
			soft_iotlb_drop(&dev->tlb, pt->tag, SOFT_WHO_ALL, first, last);
}

static int invalidate_smmuv3(struct soft_pt *pt, const void *bytes)
{
	const struct smmuv3_command *command = bytes;
	uint64_t words[2] = {le64toh(command->words[0]), le64toh(command->words[1])};
	uint32_t who = soft_user_has_pasids(pt) ? soft_who(ASID(words[0])) : SOFT_WHO_ALL;
	uint64_t first, last;

	switch (words[0] & 0xff) {
	case CFGI_CD:
	case CFGI_CD_ALL:
		/* Without such a table the descriptor is not the tenant's, and stays. */
		(void)soft_pasid_table_forget(pt, (words[0] & 0xff) == CFGI_CD ? SSID(words[0])
									       : SHIM_NO_PASID);
		return 0;
	case TLBI_NH_ALL:
	case TLBI_NSNH_ALL:
		soft_flush_all(pt);
		pt->flushes++;
		return 0;
	case TLBI_NH_ASID:
		soft_drop(pt, who, 0, UINT64_MAX, false);
		pt->flushes++;
		return 0;
	case TLBI_NH_VA:
	case TLBI_NH_VAA:
		if ((words[0] & 0xff) == TLBI_NH_VAA)
			who = SOFT_WHO_ALL;
		tlbi_range(words, &first, &last);
		soft_drop(pt, who, first, last, words[1] & 1);
		pt->flushes++;
		return 0;
	case ATC_INV:
		atc_invalidate(pt, words[1]);
		return 0;
	}
	return -EINVAL;
}

/* ---- both ---- */

static bool is_x86(const struct soft_pt *pt)
{
	return pt->format == SHIM_FORMAT_X86_64_4L || pt->format == SHIM_FORMAT_X86_64_5L;
}

static bool is_arm(const struct soft_pt *pt)
{
	return pt->format >= SHIM_FORMAT_ARMV8_S1_4K && pt->format <= SHIM_FORMAT_ARMV8_S1_64K;
}

int soft_pt_invalidate_native(struct shim_pt *base, enum shim_native type, const void *entries,
			      size_t n, size_t *ret_done)
{
	struct soft_pt *pt = soft_pt_of(base);
	union {
		struct vtd_s1 vtd;
		struct smmuv3_command smmuv3;
	} entry;
	int (*one)(struct soft_pt * pt, const void *bytes) = NULL;
	size_t size = 0, i;
	int r = 0;

	*ret_done = 0;
	if (type == SHIM_NATIVE_VTD_S1 && is_x86(pt)) {
		one = invalidate_vtd_s1;
		size = sizeof(entry.vtd);
	} else if (type == SHIM_NATIVE_SMMUV3 && is_arm(pt)) {
		one = invalidate_smmuv3;
		size = sizeof(entry.smmuv3);
	}
	if (!one || pt->kind != SHIM_KIND_USER)
		return SHIM_E_UNSUPPORTED;
	for (i = 0; i < n && !r; i++) {
		/* The array comes from a message, aligned to nothing. */
		memcpy(&entry, (const char *)entries + i * size, size);
		pthread_rwlock_wrlock(&pt->ctx->flush);
		r = one(pt, &entry);
		pthread_rwlock_unlock(&pt->ctx->flush);
	}
	*ret_done = r ? i - 1 : i;
	return r;
}
