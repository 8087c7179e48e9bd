/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_IOMMUFD_FAKE_H
#define IOASID_TEST_IOMMUFD_FAKE_H

/*
 * A model of what the shim talks to: the kernel's iommufd and VFIO, and the keeper.  It has
 * the kernel's rules as they were seen on Linux 7.3.4: objects with users, EBUSY, whole areas,
 * reserved ranges, one table a group, an open file that lives as long as anybody has it.
 *
 * Any call can be made to fail, and it can be asked whether a device reaches an address and
 * whether anything is left.
 */

#include "iommufd/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FAKE_DEVICES  8
#define FAKE_CONTEXTS 16
#define FAKE_OBJECTS  64
#define FAKE_AREAS    64
#define FAKE_TRACE    512
#define FAKE_COMMANDS 1024
#define FAKE_PASIDS   8

enum fake_type {
	FAKE_NONE,
	FAKE_IOAS,
	FAKE_HWPT,
	FAKE_DEVICE,
	FAKE_QUEUE,
	FAKE_VIOMMU,
	FAKE_VDEVICE,
	FAKE_EVENTS
};

struct fake_area {
	uint64_t iova, length;
};

struct fake_object {
	enum fake_type type;
	unsigned users; /* attached devices; HWPTs of an IOAS */
	/* IOAS */
	struct fake_area areas[FAKE_AREAS];
	size_t n_areas;
	struct iommufd_iova_range allowed[16];
	size_t n_allowed;
	/* HWPT */
	uint32_t ioas;
	uint8_t width;	 /* of its IOMMU */
	bool automatic;	 /* the kernel made it for an attachment to the IOAS */
	uint64_t ste[2]; /* nested behind an SMMUv3 */
	/* That, vDEVICE, event queue: the vIOMMU; vIOMMU: the nesting parent */
	uint32_t on;
	bool fd_open;	/* event queue */
	uint32_t flags; /* IOMMU_HWPT_* that it was made with */
	uint32_t queue;
	uint32_t parent; /* nested; then: */
	struct iommufd_hwpt_vtd_s1 data;
	struct iommufd_vtd_s1_invalidate invalidated[8]; /* the last ones */
	size_t n_invalidated;
	bool tracked;
	uint64_t dirty[8]; /* pages */
	size_t n_dirty;
};

#define FAKE_REQUESTS 16
struct fake_request {
	struct iommufd_pgfault fault;
	bool read;
	uint32_t hwpt;
};

/* An open /dev/iommu. */
struct fake_context {
	bool open; /* by the shim */
	bool kept; /* by the keeper */
	/* Delegated: by its holder, which may lock so many bytes. */
	bool given;
	uint64_t locks;
	uid_t opener;
	unsigned bound;
	uint32_t queue; /* whose descriptor is open; 0: none */
	struct fake_request requests[FAKE_REQUESTS];
	size_t n_requests;
	int answers[2]; /* how many of each code, by the broker; the kernel's own are not in it */
	struct fake_object objects[FAKE_OBJECTS]; /* ids are indices */
};

struct fake_device {
	const char *address;
	uint32_t group;
	uint8_t width; /* of its IOMMU */
	uint64_t reserved_start, reserved_last;
	struct keeper_device keeper;
	uint8_t pasid_bits; /* by the kernel */
	uint32_t hw_type;
	uint64_t cap, ecap;
	uint32_t idr[6];  /* SMMUv3 */
	uint32_t vdevice; /* 0: none */
	uint64_t number;  /* as a vDEVICE */
	bool claimed;
	size_t claimed_for;
	/* The open file: by the shim, the keeper, tenants. */
	unsigned fds;
	unsigned tenants; /* of the fds */
	bool kept;
	struct fake_context *bound;
	uint32_t id;
	uint32_t attached;  /* 0: no; without PASID */
	uint32_t automatic; /* attached to an IOAS: the HWPT behind it */
	uint32_t pasids[FAKE_PASIDS], pts[FAKE_PASIDS]; /* pts 0: free */
	unsigned disturbed; /* times that it was moved or detached: its DMA noticed */
};

struct fake {
	struct fake_device devices[FAKE_DEVICES];
	size_t n_devices;
	struct fake_context contexts[FAKE_CONTEXTS];
	uint32_t missing; /* bit n: iommufd call 0x80 + n does not exist */

	uint64_t calls; /* that could fail, since it was armed */
	uint64_t nth;	/* this one fails; 0: none */
	int error;
	unsigned long only;   /* count this request only; 0: all */
	bool forever;	      /* and all after it */
	unsigned long failed; /* the request that failed; FAKE_KEEPER: one to the keeper */
	unsigned long trace[FAKE_TRACE]; /* which request call n was, from 1 */
	bool keeper_is_down;
	int delegate_status; /* what the keeper answers, also to the end of a holder */
	unsigned n_ended;    /* holders */
	bool ended;
	uint64_t crash_at; /* the process ends instead of this call; 0: no */

	/* A hostile holder attaches it again before each DESTROY, so many times. */
	struct fake_device *hostile;
	uint32_t hostile_pt;
	unsigned hostile_times;

	/* What vIOMMUs were told, in order. */
	struct smmuv3_command commands[FAKE_COMMANDS];
	size_t n_commands;
	/* What the next read of an event queue gives. */
	char events[512];
	size_t n_events;
	unsigned polls;	  /* descriptors of sets that are open */
	unsigned watched; /* how often one was put into a set */
	unsigned memories;
	const char *memory;   /* the last that was made, */
	uint64_t memory_iova; /* and where it was mapped */
	bool no_canwbs;	      /* VIOMMU_ALLOC is refused */

	struct shim_cancel *cancel; /* requested when so many MAP_FILE were done */
	unsigned cancel_after;
	unsigned maps;
};

#define FAKE_KEEPER  1ul
#define FAKE_DUP     2ul
#define FAKE_RELEASE 3ul
#define FAKE_READ    4ul
#define FAKE_WRITE   5ul
#define FAKE_MEMORY  6ul

/* With which exit status. */
#define FAKE_CRASHED 42

void fake_init(struct fake *fake);
/* The machine of fake_tree_arm(). */
void fake_init_arm(struct fake *fake);
struct iommufd_sys fake_sys(struct fake *fake);
struct fake_device *fake_device(struct fake *fake, const char *address);

/* What the kernel does when the process that called has ended: its descriptors are closed. */
void fake_broker_is_gone(struct fake *fake);

/* The nth call from now fails with error. */
void fake_arm(struct fake *fake, uint64_t nth, int error);
void fake_disarm(struct fake *fake);

/* What is bound where the device is attached; NULL: no table of an SMMUv3's tenant. */
const uint64_t *fake_ste(const struct fake *fake, const char *address);
/* The words of a context descriptor of the shim's, at an address that is mapped for it. */
const uint64_t *fake_descriptor(const struct fake *fake, uint64_t iova);

/* What a holder of the device's descriptor does by itself. */
int fake_tenant_attach(struct fake *fake, struct fake_device *device, uint32_t pt);
void fake_tenant_close(struct fake *fake, int fd);

/*
 * What the holder of a delegated context does with its descriptor, and with a device's: the
 * calls of the kernel, none of which is made to fail or counted.  The device is bound, attached
 * to an IOAS that has one mapping; returned.
 */
uint32_t fake_holder_maps(struct fake *fake, int context, const char *address, uint64_t iova);
void fake_holder_closes(struct fake *fake, int context);

/* Whether DMA of the device without PASID reaches memory at iova. */
bool fake_reaches(const struct fake *fake, const char *address, uint64_t iova);
/* The HWPT that its DMA goes through; NULL: none. */
struct fake_object *fake_hwpt(struct fake *fake, const char *address, uint32_t pasid);
/* It writes a page: dirty where that is tracked. */
void fake_write(struct fake *fake, const char *address, uint32_t pasid, uint64_t iova);
/* It asks for a page. */
void fake_request_page(struct fake *fake, const char *address, uint32_t pasid, uint32_t group,
		       uint64_t iova, bool last);
size_t fake_areas(const struct fake *fake);
/* Nothing is open, claimed, bound, attached or allocated. */
void fake_expect_empty(const struct fake *fake);

/* ---- a sysfs tree in a temporary folder ---- */

struct fake_tree {
	char root[64];
};
void fake_tree_new(struct fake_tree *tree);
void fake_tree_free(struct fake_tree *tree);
void fake_tree_file(struct fake_tree *tree, const char *path, const char *text);
void fake_tree_link(struct fake_tree *tree, const char *path, const char *target);
/* A function with all that a real one has; driver NULL: none; iommu NULL: no IOMMU. */
void fake_tree_device(struct fake_tree *tree, const char *address, const char *class_code,
		      const char *group, const char *iommu, const char *driver);
void fake_tree_vtd(struct fake_tree *tree, const char *iommu, const char *cap, const char *ecap);
/* A machine with one SMMUv3 and two functions behind it. */
void fake_tree_arm(struct fake_tree *tree);
/* The host that fake_init() models. */
void fake_tree_standard(struct fake_tree *tree);

#endif
