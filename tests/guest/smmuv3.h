/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant of an Arm SMMUv3 writes: context descriptors, stage-1 tables, commands.  By
 * IHI 0070 (SMMUv3) 3.5, 4, 5.4 and the Arm ARM, D8; only what QEMU's model takes.  No calls
 * but on the memory that is given; no state.  For guest programs on arm64; apart from the
 * shim's own definitions on purpose.
 */
#ifndef TESTS_GUEST_SMMUV3_H
#define TESTS_GUEST_SMMUV3_H

#include <stdint.h>

#define SMMU_PAGE 4096u

/* Stage-1 tables have three levels here: 39 bits. */
#define SMMU_T0SZ 25u

enum smmu_prot {
	SMMU_RO = 1u << 7, /* AP[2] */
	SMMU_RW = 0,
};

/* A leaf: AF, inner shareable, AP[1] (any access), attribute 0. */
static inline uint64_t smmu_leaf(uint64_t address, uint64_t prot)
{
	return address | prot | 1u << 10 | 3u << 8 | 1u << 6 | 3u;
}

static inline uint64_t smmu_table(uint64_t address)
{
	return address | 3u;
}

/* Where in its page the entry of a level (1, 2, 3) is. */
static inline unsigned int smmu_index(uint64_t iova, unsigned int level)
{
	return iova >> (12 + 9 * (3 - level)) & 511;
}

/* Eight words; inner and outer write-back, 44 bits of output. */
static inline void smmu_cd(uint64_t *cd, uint64_t root, uint16_t asid)
{
	cd[1] = root;
	cd[2] = 0;
	cd[3] = 0xff; /* attribute 0: normal memory, write-back */
	for (int i = 4; i < 8; i++)
		cd[i] = 0;
	/* T0SZ, IR0, OR0, SH0, EPD1, V, IPS, AA64, R, A, ASET, ASID */
	__atomic_store_n(&cd[0],
			 SMMU_T0SZ | 1u << 8 | 1u << 10 | 3u << 12 | 1u << 30 | 1ull << 31 |
				 4ull << 32 | 1ull << 41 | 1ull << 45 | 1ull << 46 | 1ull << 47 |
				 (uint64_t)asid << 48,
			 __ATOMIC_RELEASE);
}

/* V, Config = stage 1; one CD. */
static inline void smmu_ste(uint64_t *ste, uint64_t cd)
{
	ste[0] = 1u | 5u << 1 | cd;
	ste[1] = 1u << 2 | 1u << 4 | 3u << 6; /* S1CIR, S1COR, S1CSH */
}

struct smmu_command {
	uint64_t word[2];
};

static inline struct smmu_command smmu_tlbi_va(uint16_t asid, uint64_t iova)
{
	return (struct smmu_command){{0x12 | (uint64_t)asid << 48, iova & ~0xfffull}};
}
static inline struct smmu_command smmu_tlbi_asid(uint16_t asid)
{
	return (struct smmu_command){{0x11 | (uint64_t)asid << 48, 0}};
}
static inline struct smmu_command smmu_tlbi_all(void)
{
	return (struct smmu_command){{0x10, 0}};
}
static inline struct smmu_command smmu_tlbi_nsnh_all(void)
{
	return (struct smmu_command){{0x30, 0}};
}
static inline struct smmu_command smmu_cfgi_cd(uint32_t sid)
{
	return (struct smmu_command){{0x05 | (uint64_t)sid << 32, 1}};
}
static inline struct smmu_command smmu_cfgi_ste(uint32_t sid)
{
	return (struct smmu_command){{0x03 | (uint64_t)sid << 32, 1}};
}

/* Event records: the type, the stream. */
#define SMMU_C_BAD_CD	   0x0a
#define SMMU_F_TRANSLATION 0x10
#define SMMU_F_PERMISSION  0x13
static inline unsigned int smmu_event_type(const uint64_t *evt)
{
	return evt[0] & 0xff;
}
static inline uint32_t smmu_event_sid(const uint64_t *evt)
{
	return (uint32_t)(evt[0] >> 32);
}

#endif
