/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Walks through tables that are any bytes, in every format.  The input is a header that chooses
 * stages, followed by memory, which begins at physical address 0 and in which all tables lie.
 * Whatever it holds, and whoever changes it meanwhile, a walk touches only that memory, ends
 * within its bound, and its answer is consistent.  While nobody changes it, the walk included,
 * the answer is the same again, and from the paging-structure cache too.
 *
 * $IOASID_FUZZ_FORMAT, if set, is the format of the first stage, whatever the input says; "list":
 * prints their names and ends.
 */

#include "soft/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct soft_format *first_stage;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *name = getenv("IOASID_FUZZ_FORMAT");
	const struct soft_format *format;

	for (size_t i = 0; name && !strcmp(name, "list"); i++) {
		format = soft_format_at(i);
		if (!format)
			exit(0);
		puts(format->name);
	}
	first_stage = name ? soft_format_by_name(name, strlen(name)) : NULL;
	if (name && !first_stage) {
		fprintf(stderr, "IOASID_FUZZ_FORMAT: no format '%s'\n", name);
		exit(2);
	}
	return 0;
}

struct memory {
	uint8_t *bytes;
	size_t size;
	uint64_t touched; /* reads and exchanges */
	bool restless;	  /* somebody else writes to it */
	uint64_t noise;
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* Once in a while, one bit of a word or all of it. */
static void disturb(struct memory *memory, uint64_t address)
{
	uint64_t word;

	if (!memory->restless)
		return;
	memory->noise = memory->noise * 6364136223846793005ull + 1442695040888963407ull;
	if (memory->noise >> 62)
		return;
	memcpy(&word, memory->bytes + address, sizeof(word));
	word ^= memory->noise >> 61 & 1 ? 1ull << (memory->noise >> 32 & 63) : memory->noise;
	memcpy(memory->bytes + address, &word, sizeof(word));
}

static bool holds(const struct memory *memory, uint64_t address)
{
	return address < memory->size && memory->size - address >= sizeof(uint64_t);
}

static int load(const void *opaque, uint64_t address, uint64_t *ret_entry)
{
	struct memory *memory = (struct memory *)opaque;

	memory->touched++;
	if (!holds(memory, address))
		return -EFAULT;
	disturb(memory, address);
	memcpy(ret_entry, memory->bytes + address, sizeof(*ret_entry));
	return 0;
}

static int update(const void *opaque, uint64_t address, uint64_t *expected, uint64_t wanted)
{
	struct memory *memory = (struct memory *)opaque;
	uint64_t word;

	memory->touched++;
	/* The way to it, for writing, may be another by now. */
	if (!holds(memory, address))
		return -EFAULT;
	disturb(memory, address);
	memcpy(&word, memory->bytes + address, sizeof(word));
	if (word != *expected) {
		*expected = word;
		return 1;
	}
	memcpy(memory->bytes + address, &wanted, sizeof(wanted));
	return 0;
}

/*
 * The header: how many stages (bits 1:0), and an input width that is tried for all of them (7:2,
 * 0: none); for each its format, output width, FLAG_*, page of the root.
 */
struct header {
	uint8_t n_stages;
	struct {
		uint8_t format, output_bits, flags, root;
	} stage[SOFT_STAGES_MAX];
	uint8_t access; /* 4:0 which; ACCESS_* */
	uint8_t address[8];
} __attribute__((packed));

#define FLAG_SNOOP	    1
#define FLAG_DEVICE_TLB	    2
#define FLAG_TABLES_IN_NEXT 4
#define FLAG_EMPTY	    8
#define FLAG_ACCESS_DIRTY   16
#define FLAG_FAULTS_UNUSED  32
#define FLAG_LPA2	    64
#define FLAG_UPPER	    128

#define ACCESS_UPDATE	0x20 /* accessed and dirty bits are written */
#define ACCESS_RESTLESS 0x40
#define ACCESS_USER	0x80

static void make_stage(const struct header *h, unsigned int i, struct memory *memory,
		       struct soft_stage *ret)
{
	uint8_t flags = h->stage[i].flags;
	struct soft_shape_spec spec = {
		.input_bits = h->n_stages >> 2,
		.upper = flags & FLAG_UPPER,
		.lpa2 = flags & FLAG_LPA2,
	};
	size_t n_formats = 0;

	while (soft_format_at(n_formats))
		n_formats++;
	*ret = (struct soft_stage){
		.format = !i && first_stage ? first_stage
					    : soft_format_at(h->stage[i].format % n_formats),
		.env =
			{
				.output_bits = 32 + h->stage[i].output_bits % 25,
				.snoop_control = flags & FLAG_SNOOP,
				.device_tlb = flags & FLAG_DEVICE_TLB,
				.access_dirty = flags & FLAG_ACCESS_DIRTY,
			},
		.tables_in_next = flags & FLAG_TABLES_IN_NEXT,
		.empty = flags & FLAG_EMPTY,
		.root = (uint64_t)h->stage[i].root << 12,
		.load = load,
		.update = h->access & ACCESS_UPDATE ? update : NULL,
		.memory = memory,
	};
	if (soft_shape_init(ret->format, &spec, NULL, &ret->shape)) {
		spec = (struct soft_shape_spec){0};
		must(!soft_shape_init(ret->format, &spec, NULL, &ret->shape));
	}
	ret->env.lpa2 = spec.lpa2;
	ret->faults_unused =
		flags & FLAG_FAULTS_UNUSED && ret->format->faults_unused && !ret->env.access_dirty;
}

static void check_answer(const struct soft_stage *stages, unsigned int n, uint64_t address,
			 uint32_t access, bool ok, const struct soft_translation *where,
			 const struct shim_fault *fault)
{
	bool told_apart = false;

	for (unsigned int i = 0; i < n; i++)
		told_apart |= stages[i].format->tells_privileged_exec;
	if (!ok) {
		must(fault->cause > SHIM_FAULT_NONE && fault->cause <= SHIM_FAULT_ACCESS_FLAG);
		must(fault->stage >= 1 && fault->stage <= n);
		must(fault->level <= stages[fault->stage - 1].shape.levels);
		return;
	}
	must(fault->cause == SHIM_FAULT_NONE);
	/* Executing may be the privileged's or the others' alone. */
	must(!(access & ~where->prot) || (access & SHIM_EXEC && told_apart));
	must(!(where->cached & ~where->prot));
	must(where->page_size >= SOFT_PAGE_SIZE && !(where->page_size & (where->page_size - 1)));
	must((where->output & (SOFT_PAGE_SIZE - 1)) == (address & (SOFT_PAGE_SIZE - 1)));
	must(!(where->output >> stages[n - 1].env.output_bits));
}

/* With a cache of paging structures: found out, then known. */
static void walk_cached(const struct soft_stage *stages, unsigned int n, uint64_t address,
			uint32_t access, bool ok, const struct soft_translation *where,
			const struct shim_fault *fault)
{
	struct soft_stage cached[SOFT_STAGES_MAX];
	struct soft_iotlb structures;

	if (soft_iotlb_init(&structures, 64))
		abort();
	for (unsigned int i = 0; i < n; i++) {
		cached[i] = stages[i];
		cached[i].structures = &structures;
		cached[i].tag = i + 1;
	}
	for (unsigned int i = 0; i < 4; i++) {
		/* Between, the neighbours: what they leave must not matter. */
		uint64_t at = i & 1 ? address ^ 1ull << (12 + (address >> 3) % 40) : address;
		struct soft_translation again = {0};
		struct shim_fault fault_again = {0};
		bool ok_again = soft_walk(cached, n, at, access, NULL, &again, &fault_again);

		if (at != address)
			continue;
		must(ok_again == ok && again.output == where->output && again.prot == where->prot &&
		     fault_again.cause == fault->cause && fault_again.entry == fault->entry &&
		     fault_again.level == fault->level);
	}
	soft_iotlb_deinit(&structures);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct soft_stage stages[SOFT_STAGES_MAX];
	struct soft_translation where = {0}, again = {0};
	struct shim_fault fault = {0}, fault_again = {0};
	struct shim_walk trace = {0};
	bool ok, cacheable = true;
	struct memory memory;
	struct header h;
	uint64_t address, bound;
	uint32_t access;
	unsigned int n;

	if (size < sizeof(h))
		return 0;
	memcpy(&h, data, sizeof(h));
	memory = (struct memory){.size = size - sizeof(h), .restless = h.access & ACCESS_RESTLESS};
	memory.bytes = malloc(memory.size + 1);
	if (!memory.bytes)
		return 0;
	memcpy(memory.bytes, data + sizeof(h), memory.size);
	n = h.n_stages % SOFT_STAGES_MAX + 1;
	for (unsigned int i = 0; i < n; i++) {
		make_stage(&h, i, &memory, &stages[i]);
		/* The cache holds addresses of 52 bits, and so much puts out whoever has one. */
		cacheable &= stages[i].env.output_bits <= 52;
	}
	memcpy(&address, h.address, sizeof(address));
	memory.noise = address;
	access = 1u << (h.access & 31) % 3 | (h.access & ACCESS_USER ? SOFT_USER : 0);
	bound = soft_walk_bound(stages, n);
	ok = soft_walk(stages, n, address, access, &trace, &where, &fault);
	must(memory.touched <= bound);
	must(trace.n_levels <= SHIM_WALK_MAX && trace.n_levels <= memory.touched);
	for (size_t i = 0; i < trace.n_levels; i++) {
		must(trace.levels[i].stage >= 1 && trace.levels[i].stage <= n);
		must(memchr(trace.levels[i].decoded, 0, sizeof(trace.levels[i].decoded)) != NULL);
	}
	check_answer(stages, n, address, access, ok, &where, &fault);
	/* One table's page may be another's: a bit that is set may change the next answer. */
	if (!(h.access & (ACCESS_RESTLESS | ACCESS_UPDATE))) {
		must(soft_walk(stages, n, address, access, NULL, &again, &fault_again) == ok);
		must(again.output == where.output && again.prot == where.prot &&
		     again.page_size == where.page_size && fault_again.cause == fault.cause &&
		     fault_again.entry == fault.entry);
		if (cacheable)
			walk_cached(stages, n, address, access, ok, &where, &fault);
	}
	free(memory.bytes);
	return 0;
}
