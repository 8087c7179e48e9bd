/* SPDX-License-Identifier: Apache-2.0 */

/* See smmuv3.h.  Words are in the machine's order: Linux runs an SMMUv3 little-endian. */

#include "iommufd/smmuv3.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

static unsigned field(uint64_t value, unsigned high, unsigned low)
{
	return (unsigned)(value >> low & ((UINT64_C(1) << (high - low + 1)) - 1));
}

static bool bit(uint64_t value, unsigned n)
{
	return value >> n & 1;
}

/* ---- capabilities ---- */

/* IDR5.OAS, and IPS of a context descriptor. */
static const uint8_t widths[] = {32, 36, 40, 42, 44, 48, 52};

void smmuv3_decode(const uint32_t idr[SMMUV3_IDRS], struct smmuv3_abilities *ret)
{
	unsigned oas = field(idr[5], 2, 0);

	*ret = (struct smmuv3_abilities){
		.both_stages = bit(idr[0], 0) && bit(idr[0], 1),
		.asid16 = bit(idr[0], 12),
		.two_level_cds = bit(idr[0], 19),
		.ssid_bits = (uint8_t)field(idr[1], 10, 6),
		/* 52 bits need larger granules, and another layout with 4 KiB. */
		.output_bits = oas < 5 ? widths[oas] : 48,
		.granules = {bit(idr[5], 4), bit(idr[5], 5), bit(idr[5], 6)},
	};
}

static const struct {
	enum shim_format format;
	uint64_t pages;
	uint8_t shift;
	uint8_t tg0; /* CD.TG0 */
} granules[] = {
	{SHIM_FORMAT_ARMV8_S1_4K, 1u << 12 | 1u << 21 | 1u << 30, 12, 0},
	{SHIM_FORMAT_ARMV8_S1_16K, 1u << 14 | 1u << 25, 14, 2},
	{SHIM_FORMAT_ARMV8_S1_64K, 1u << 16 | 1u << 29, 16, 1},
};
#define N_GRANULES (sizeof(granules) / sizeof(granules[0]))

/* Without FEAT_LVA. */
#define INPUT_BITS 48

#define ABSENT(caps, feature, ...)                                                                 \
	snprintf((caps)->feature_absent[feature], SHIM_REASON_MAX, __VA_ARGS__)

static void add_format(struct shim_caps *caps, const struct shim_format_cap *format)
{
	caps->formats[caps->n_formats++] = *format;
}

void smmuv3_caps(const char *name, const struct smmuv3_abilities *a, const char *no_nesting,
		 struct shim_caps *ret_caps)
{
	struct shim_caps *caps = ret_caps;
	bool nests = !*no_nesting;

	memset(caps, 0, sizeof(*caps));
	caps->max_depth = nests ? 2 : 1;
	/* What the kernel builds with 4 KiB pages; with others only the page is certain. */
	add_format(caps, &(struct shim_format_cap){
				 .format = SHIM_FORMAT_KERNEL_CHOSEN,
				 /* A parent's input is stage 1's output. */
				 .input_bits = a->output_bits,
				 .output_bits = a->output_bits,
				 .page_sizes = a->granules[0] ? granules[0].pages : 0,
				 .nest_parent = nests,
			 });
	for (size_t i = 0; nests && i < N_GRANULES; i++)
		if (a->granules[i])
			add_format(caps, &(struct shim_format_cap){
						 .format = granules[i].format,
						 .input_bits = INPUT_BITS,
						 .output_bits = a->output_bits,
						 .page_sizes = granules[i].pages,
						 .tenant_only = true,
						 .nest_child = true,
						 .table_bits_least = SMMUV3_TABLE_BITS_LEAST,
					 });
	if (nests) {
		caps->pasid_tables = 1u << SHIM_PASID_SMMUV3_CD;
		caps->native_invalidations = 1u << SHIM_NATIVE_SMMUV3;
		caps->invalidations =
			1u << SHIM_INVALIDATE_PASID | 1u << SHIM_INVALIDATE_PASID_CACHE;
	} else {
		ABSENT(caps, SHIM_FEATURE_NESTING, "%s", no_nesting);
	}
	ABSENT(caps, SHIM_FEATURE_FAULTS,
	       "page requests and stalls of SMMUv3 %s are not taken by the iommufd shim", name);
	ABSENT(caps, SHIM_FEATURE_DIRTY,
	       "dirty tracking on SMMUv3 %s is not offered by the iommufd shim", name);
	ABSENT(caps, SHIM_FEATURE_SNOOP, "whether SMMUv3 %s enforces snooping, nobody tells", name);
	if (!a->ssid_bits)
		ABSENT(caps, SHIM_FEATURE_PASID, "SMMUv3 IDR1.SSIDSIZE is 0 on %s", name);
	else
		ABSENT(caps, SHIM_FEATURE_PASID,
		       "PASIDs behind SMMUv3 %s are those of a bound PASID table", name);
}

static int granule_of(enum shim_format format)
{
	for (size_t i = 0; i < N_GRANULES; i++)
		if (granules[i].format == format)
			return (int)i;
	return -1;
}

unsigned smmuv3_page_shift(enum shim_format format)
{
	int i = granule_of(format);

	return i < 0 ? 0 : granules[i].shift;
}

uint64_t smmuv3_root_size(enum shim_format format, unsigned input_bits)
{
	unsigned shift = smmuv3_page_shift(format), index = shift - 3;
	/* What the levels below the first leave over: at least one bit. */
	unsigned rest = (input_bits - shift - 1) % index + 1;
	uint64_t size = UINT64_C(8) << rest;

	return size < 64 ? 64 : size;
}

/* ---- entries ---- */

/* Word 0: V, Config. */
#define STE_V	    UINT64_C(1)
#define STE_ABORT   0u
#define STE_S1	    (UINT64_C(5) << 1)
#define STE_S1FMT   4
#define STE_S1CDMAX 59
/* Word 1: the table is read write-back and inner shareable; without a substream: CD 0. */
#define STE_CACHED    (UINT64_C(1) << 2 | UINT64_C(1) << 4 | UINT64_C(3) << 6)
#define STE_S1DSS_CD0 UINT64_C(2)

void smmuv3_ste_abort(uint64_t ret_ste[2])
{
	ret_ste[0] = htole64(STE_V | STE_ABORT);
	ret_ste[1] = 0;
}

void smmuv3_ste_cds(uint64_t root, unsigned format, unsigned bits, uint64_t ret_ste[2])
{
	ret_ste[0] = htole64(STE_V | STE_S1 | (uint64_t)format << STE_S1FMT | root |
			     (uint64_t)bits << STE_S1CDMAX);
	ret_ste[1] = htole64(STE_CACHED | (bits ? STE_S1DSS_CD0 : 0));
}

static uint64_t ips_of(unsigned output_bits)
{
	uint64_t ips = 0;

	while (ips < 5 && widths[ips] < output_bits)
		ips++;
	return ips;
}

void smmuv3_cd(enum shim_format format, unsigned input_bits, unsigned output_bits, uint64_t root,
	       uint16_t asid, uint64_t ret_cd[8])
{
	memset(ret_cd, 0, SMMUV3_CD_BYTES);
	ret_cd[0] = htole64((64 - input_bits) |				      /* T0SZ */
			    (uint64_t)granules[granule_of(format)].tg0 << 6 | /* TG0 */
			    1u << 8 | 1u << 10 | 3u << 12 | /* IR0, OR0, SH0: as the vSTE */
			    1u << 30 |			    /* EPD1: nothing above */
			    UINT64_C(1) << 31 |		    /* V */
			    ips_of(output_bits) << 32 | UINT64_C(1) << 41 | /* IPS, AA64 */
			    /* R: events; A: a fault is an abort; ASET: not a CPU's ASID */
			    UINT64_C(1) << 45 | UINT64_C(1) << 46 | UINT64_C(1) << 47 |
			    (uint64_t)asid << 48);
	ret_cd[1] = htole64(root); /* TTB0 */
	ret_cd[3] = htole64(UINT64_C(0x44) | UINT64_C(0xff) << 8 | UINT64_C(0x04) << 16 |
			    UINT64_C(0xf4) << 24); /* MAIR */
}

/* ---- commands ---- */

enum opcode {
	CFGI_CD = 0x05,
	CFGI_CD_ALL = 0x06,
	TLBI_NH_ALL = 0x10,
	TLBI_NH_ASID = 0x11,
	TLBI_NH_VA = 0x12,
	TLBI_NH_VAA = 0x13,
	TLBI_NSNH_ALL = 0x30,
};

static struct smmuv3_command command(uint64_t low, uint64_t high)
{
	return (struct smmuv3_command){{htole64(low), htole64(high)}};
}

struct smmuv3_command smmuv3_tlbi_all(void)
{
	return command(TLBI_NH_ALL, 0);
}

struct smmuv3_command smmuv3_tlbi_asid(uint16_t asid)
{
	return command(TLBI_NH_ASID | (uint64_t)asid << 48, 0);
}

struct smmuv3_command smmuv3_tlbi_va(uint16_t asid, uint64_t iova, bool leaf)
{
	return command(TLBI_NH_VA | (uint64_t)asid << 48, (iova & ~UINT64_C(0xfff)) | leaf);
}

struct smmuv3_command smmuv3_tlbi_vaa(uint64_t iova, bool leaf)
{
	return command(TLBI_NH_VAA, (iova & ~UINT64_C(0xfff)) | leaf);
}

struct smmuv3_command smmuv3_cfgi_cd(uint32_t sid, uint32_t ssid)
{
	return command(CFGI_CD | (uint64_t)ssid << 12 | (uint64_t)sid << 32, 1 /* leaf */);
}

struct smmuv3_command smmuv3_cfgi_cd_all(uint32_t sid)
{
	return command(CFGI_CD_ALL | (uint64_t)sid << 32, 0);
}

/*
 * ATC_INV the kernel would take as well.  These tables are used without ATS, and a device that
 * has it off answers such a command by a time-out, which all streams of the unit would wait for.
 */
bool smmuv3_command_allowed(const struct smmuv3_command *c)
{
	switch (le64toh(c->word[0]) & 0xff) {
	case CFGI_CD:
	case CFGI_CD_ALL:
	case TLBI_NH_ALL:
	case TLBI_NH_ASID:
	case TLBI_NH_VA:
	case TLBI_NH_VAA:
	case TLBI_NSNH_ALL:
		return true;
	}
	return false;
}

/* ---- events ---- */

static enum shim_fault_cause cause_of(unsigned type)
{
	switch (type) {
	case 0x04: /* C_BAD_STE */
	case 0x08: /* C_BAD_SUBSTREAMID */
	case 0x0a: /* C_BAD_CD */
		return SHIM_FAULT_BAD_ENTRY;
	case 0x12: /* F_ACCESS */
		return SHIM_FAULT_ACCESS_FLAG;
	case 0x09: /* F_CD_FETCH */
	case 0x0b: /* F_WALK_EABT */
		return SHIM_FAULT_MEMORY_ERROR;
	case 0x10: /* F_TRANSLATION */
		return SHIM_FAULT_NOT_PRESENT;
	case 0x11: /* F_ADDR_SIZE */
		return SHIM_FAULT_OUTPUT_WIDTH;
	case 0x13: /* F_PERMISSION */
		return SHIM_FAULT_PERMISSION;
	}
	return SHIM_FAULT_NONE;
}

void smmuv3_event(const uint64_t event[4], uint32_t *ret_sid, struct shim_report *ret_report)
{
	uint64_t first = le64toh(event[0]), second = le64toh(event[1]);
	unsigned type = field(first, 7, 0);
	/* From 0x10 on an event tells of an access: PnU 33, InD 34, RnW 35. */
	bool access = type >= 0x10 && type <= 0x13;

	*ret_sid = (uint32_t)(first >> 32);
	ret_report->pasid = bit(first, 11) ? field(first, 31, 12) : SHIM_NO_PASID; /* SSV */
	ret_report->fault = (struct shim_fault){
		.cause = cause_of(type),
		/* Events of stage 2 the kernel keeps for itself. */
		.stage = access ? 1 : 0,
		.access = !access	    ? 0
			  : bit(second, 34) ? SHIM_EXEC
			  : bit(second, 35) ? SHIM_READ
					    : SHIM_WRITE,
		.address = access ? le64toh(event[2]) : 0,
	};
}
