/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_SMMUV3_H
#define IOASID_IOMMUFD_SMMUV3_H

/*
 * Arm SMMUv3: what a unit says of itself as the shim's capabilities, and the words that the
 * shim writes for tenants: stream table entries, context descriptors, commands; and what it
 * reads for them, events.  Pure functions; no I/O, no state.
 *
 * By the architecture specification (IHI 0070): registers 6.3, entries 5.2 and 5.4, commands
 * 4, events 7.3.
 */

#include "shim.h"

#define SMMUV3_IDRS 6
/* T0SZ is at most 39, without FEAT_TTST. */
#define SMMUV3_TABLE_BITS_LEAST 25

struct smmuv3_abilities {
	bool both_stages; /* IDR0.S1P, S2P */
	bool asid16;
	bool two_level_cds; /* IDR0.CD2L */
	uint8_t ssid_bits;  /* IDR1.SSIDSIZE */
	uint8_t output_bits;
	bool granules[3]; /* 4 KiB, 16 KiB, 64 KiB */
};

void smmuv3_decode(const uint32_t idr[SMMUV3_IDRS], struct smmuv3_abilities *ret);

/* Formats and what is absent with its reason; no_nesting "": it nests. */
void smmuv3_caps(const char *name, const struct smmuv3_abilities *abilities, const char *no_nesting,
		 struct shim_caps *ret_caps);

/* The page of a stage-1 format, as a shift; 0: it is none. */
unsigned smmuv3_page_shift(enum shim_format format);
/* How a table's root must be aligned, which is also its size. */
uint64_t smmuv3_root_size(enum shim_format format, unsigned input_bits);

/* ---- words ---- */

#define SMMUV3_CD_BYTES 64u

/* Everything is terminated; nothing reaches memory. */
void smmuv3_ste_abort(uint64_t ret_ste[2]);
/* A table of 1 << bits context descriptors, in S1Fmt format. */
void smmuv3_ste_cds(uint64_t root, unsigned format, unsigned bits, uint64_t ret_ste[2]);

/*
 * Memory attributes by AttrIndx: 0 normal, not cached; 1 normal, write-back; 2 Device-nGnRE;
 * 3 normal, outer write-back only (those that Linux uses for I/O page tables).
 */
void smmuv3_cd(enum shim_format format, unsigned input_bits, unsigned output_bits, uint64_t root,
	       uint16_t asid, uint64_t ret_cd[8]);

struct smmuv3_command {
	uint64_t word[2];
};
struct smmuv3_command smmuv3_tlbi_all(void);
struct smmuv3_command smmuv3_tlbi_asid(uint16_t asid);
struct smmuv3_command smmuv3_tlbi_va(uint16_t asid, uint64_t iova, bool leaf);
/* Of any ASID. */
struct smmuv3_command smmuv3_tlbi_vaa(uint64_t iova, bool leaf);
struct smmuv3_command smmuv3_cfgi_cd(uint32_t sid, uint32_t ssid);
struct smmuv3_command smmuv3_cfgi_cd_all(uint32_t sid);
/* Whether a tenant may give it: it names what is cached of its own tables only. */
bool smmuv3_command_allowed(const struct smmuv3_command *command);

/* An event of a tenant's stream; fills pasid and fault. */
void smmuv3_event(const uint64_t event[4], uint32_t *ret_sid, struct shim_report *ret_report);

#endif
