/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_IOMMUFD_BOOK_H
#define IOASID_TEST_IOMMUFD_BOOK_H

/*
 * The least of a broker with a registry: a book of the finished calls and of the one under
 * way, with one context.  A broker may end anywhere; the next one is made from the book alone,
 * by the order that shim.h prescribes, and can say whether kernel and keeper agree with it.
 *
 * Fake and book lie in memory that a forked process shares, so that one can be killed.
 */

#include "fake.h"

#define BOOK_MAPS	 8
#define BOOK_TABLES	 7
#define BOOK_ATTACHMENTS 12

#define K4 (UINT64_C(1) << 12)
#define G1 (UINT64_C(1) << 30)
#define RW (SHIM_READ | SHIM_WRITE)

enum book_device { DEV, DEV2, GROUP_A, GROUP_B, LARGE, BOOK_DEVICES };
extern const char *const book_addresses[BOOK_DEVICES];

struct book_mapping {
	uint64_t iova, length;
};

/* How a table is made. */
struct book_spec {
	bool user;	 /* a tenant's table, below: */
	unsigned parent; /* lower than its own number */
	uint64_t root;	 /* bound at once; 0: nothing */
	bool faults, dirty;
};

struct book_table {
	bool there;
	struct book_spec spec;
	uint64_t root; /* bound now; 0: nothing */
	bool tracked;
	struct shim_saved saved;
	uint64_t bytes;
	struct book_mapping maps[BOOK_MAPS];
	size_t n_maps;
};

struct book_attachment {
	bool there;
	unsigned dev, pt;
	uint32_t pasid;
	struct shim_saved saved;
};

enum book_call {
	CALL_NONE,
	CALL_OPEN,
	CALL_CLOSE,
	CALL_CLAIM,
	CALL_RELEASE,
	CALL_ALLOC,
	CALL_FREE,
	CALL_MAP,
	CALL_UNMAP,
	CALL_ATTACH,
	CALL_REPLACE,
	CALL_DETACH,
	CALL_BIND,
	CALL_UNBIND,
	CALL_TRACK,
};

/* What is kept of a call from before it until its result is. */
struct book_intent {
	enum book_call call;
	unsigned dev, pt;
	uint32_t pasid;
	struct book_mapping maps[BOOK_MAPS];
	size_t n_maps;
};

struct book {
	struct fake fake;
	bool open;
	struct shim_saved ctx;
	struct {
		bool there;
		struct shim_saved saved;
	} devs[BOOK_DEVICES];
	struct book_table pts[BOOK_TABLES];
	struct book_attachment attachments[BOOK_ATTACHMENTS];
	struct book_intent intent;
	unsigned disturbed[BOOK_DEVICES]; /* as of book_note_disturbed() */
};

struct book *book_new(void);
void book_free(struct book *book);

struct broker {
	struct book *book;
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_mem *mem;
	struct shim_dev *devs[BOOK_DEVICES];
	struct shim_pt *pts[BOOK_TABLES];
	/* The process ends when the next call has done its work, before it is written down. */
	bool ends_before_result;
	/* A choice of those that shim.h leaves. */
	bool undoes_unmap;  /* the rest of an unmap by pt_undo_map() */
	bool replaces_back; /* instead of leaving that to ctx_restored() */
	size_t strays;
};

void broker_start(struct broker *broker, struct book *book, const struct fake_tree *tree);
/* In order: the objects stay. */
void broker_stop(struct broker *broker);

/* Each writes down what it is about to do, does it, and writes down the result. */
int broker_open(struct broker *broker);
int broker_close(struct broker *broker);
int broker_claim(struct broker *broker, unsigned first, unsigned n);
int broker_release(struct broker *broker, unsigned dev);
int broker_alloc(struct broker *broker, unsigned pt);
int broker_alloc_as(struct broker *broker, unsigned pt, const struct book_spec *spec);
int broker_free(struct broker *broker, unsigned pt);
int broker_map(struct broker *broker, unsigned pt, const struct book_mapping *maps, size_t n,
	       const struct shim_cancel *cancel);
int broker_unmap(struct broker *broker, unsigned pt, const struct book_mapping *maps, size_t n);
int broker_attach(struct broker *broker, unsigned dev, uint32_t pasid, unsigned pt);
int broker_replace(struct broker *broker, unsigned dev, uint32_t pasid, unsigned pt);
int broker_detach(struct broker *broker, unsigned dev, uint32_t pasid);
/* Root 0: binds none. */
int broker_bind(struct broker *broker, unsigned pt, uint64_t root);
int broker_track(struct broker *broker, unsigned pt, bool enable);
/* Bit n: page n of the table's first eight is dirty.  Clears. */
unsigned broker_dirty(struct broker *broker, unsigned pt);

/* From the book; the first error.  It can be called again on a fresh broker. */
int broker_restore(struct broker *broker);
/* Kernel, keeper and shim have what the book has, and nothing else. */
void broker_check(struct broker *broker);

void book_note_disturbed(struct book *book);
/* The DMA of no device but this one (BOOK_DEVICES: of none) has noticed anything. */
void book_check_undisturbed(const struct book *book, unsigned but);

#endif
