/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_VTD_H
#define IOASID_IOMMUFD_VTD_H

/*
 * Intel VT-d: what a remapping unit says of itself, as the shim's capabilities.  Pure
 * functions of the two registers; no I/O.
 */

#include "shim.h"

struct vtd_unit {
	char name[SHIM_NAME_MAX]; /* "dmar0", for the reasons */
	uint64_t cap;
	uint64_t ecap;
};

/* What the unit can do, before this shim's and the device's own limits. */
struct vtd_abilities {
	uint8_t second_stage_levels; /* of the one table the kernel can mean; 0: several */
	uint8_t second_stage_bits;   /* 0: no second stage in legacy mode */
	uint8_t address_bits;	     /* MGAW: no address is wider, whatever the stage */
	uint64_t second_stage_pages; /* bit n: pages of 2^n bytes */
	uint64_t first_stage_pages;
	bool scalable;		    /* scalable mode, if the kernel was told to use it */
	bool first_stage_possible;  /* the kernel may build first-stage tables */
	bool second_stage_scalable; /* second stage in scalable mode too */
	bool first_stage_5l;
	bool nesting;
	bool snoop_control;
	bool device_tlb;
	bool page_requests;
	bool dirty;
	uint8_t pasid_bits;
};

void vtd_decode(uint64_t cap, uint64_t ecap, struct vtd_abilities *ret);

/*
 * Formats, widths, page sizes, and what is absent with the register's field as its reason.
 * What depends on the device (PASIDs, device TLB) is filled as far as the unit goes.
 */
void vtd_caps(const struct vtd_unit *unit, struct shim_caps *ret_caps);

#endif
