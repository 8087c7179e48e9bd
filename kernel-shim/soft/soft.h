/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_H
#define IOASID_SOFT_H

/*
 * The software IOMMU: a shim whose IOMMUs and devices are simulated in this process.  Its
 * page tables are real bytes in the layouts that hardware uses, walked by the rules that
 * hardware walks them by; its IOTLBs stay stale until they are invalidated; its devices do
 * DMA when shim_dma() is called.
 */

#include "shim.h"

/* What is wrong with a topology, and where. */
struct soft_problem {
	char file[256];	 /* the path as given; "<built in>" or "<memory>" */
	uint32_t line;	 /* from 1; 0: the file as a whole */
	uint32_t column; /* from 1, in bytes */
	char path[128];	 /* "devices[3].iommu"; "": the document */
	char message[256];
};

/* Zeros are the defaults. */
struct soft_options {
	/*
	 * Bytes of simulated host-physical address space, a power of two of at least 64 MiB;
	 * 0: as much as the process can reserve, at most 16 TiB.  It is never wider than the
	 * narrowest IOMMU's output.
	 */
	uint64_t physical_bytes;
	/* The most 4 KiB page-table pages that may exist at once; 0: as many as fit. */
	uint64_t table_pages;
};

enum soft_error {
	/* The topology is refused; see the problem. */
	SOFT_E_TOPOLOGY = 1,
};

/*
 * Makes a software IOMMU from a topology file (docs/topology.md); NULL: the built-in one.
 * SOFT_E_TOPOLOGY (ret_problem is filled); -ENOMEM; -errno of reading the file.
 */
int soft_shim_new(const char *topology_path, const struct soft_options *options,
		  struct shim **ret_shim, struct soft_problem *ret_problem);

/* The same from text in memory, which need not be terminated. */
int soft_shim_new_from_memory(const char *text, size_t length, const struct soft_options *options,
			      struct shim **ret_shim, struct soft_problem *ret_problem);

/* The text of the built-in topology, an example of the format. */
extern const char soft_builtin_topology[];

#endif
