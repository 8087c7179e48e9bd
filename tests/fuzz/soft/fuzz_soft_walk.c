/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Walks through tables that are any bytes.  The input is a header that chooses stages,
 * followed by memory, which begins at physical address 0 and in which all tables lie.
 * Whatever it holds, a walk reads only within that memory, a bounded number of entries,
 * each once, and its answer is consistent.
 */

#include "soft/walk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	const uint8_t *bytes;
	size_t size;
	unsigned int loads;
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

static int load(const void *opaque, uint64_t address, uint64_t *ret_entry)
{
	struct memory *memory = (struct memory *)opaque;

	memory->loads++;
	if (address >= memory->size || memory->size - address < sizeof(*ret_entry))
		return -EFAULT;
	memcpy(ret_entry, memory->bytes + address, sizeof(*ret_entry));
	return 0;
}

/* Bytes of the header: stages; for each format, output width, flags, root page. */
struct header {
	uint8_t n_stages;
	struct {
		uint8_t format, output_bits, flags, root;
	} stage[SOFT_STAGES_MAX];
	uint8_t access;
	uint8_t address[8];
} __attribute__((packed));

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct soft_stage stages[SOFT_STAGES_MAX];
	struct soft_translation where = {0}, again = {0};
	struct shim_fault fault = {0}, fault_again = {0};
	struct shim_walk trace = {0};
	struct memory memory;
	struct header h;
	unsigned int n, most = 0;
	uint64_t address;
	uint32_t access;
	bool ok;

	if (size < sizeof(h))
		return 0;
	memcpy(&h, data, sizeof(h));
	memory = (struct memory){.bytes = data + sizeof(h), .size = size - sizeof(h)};
	n = h.n_stages % SOFT_STAGES_MAX + 1;
	for (unsigned int i = 0; i < n; i++) {
		const struct soft_format *format = soft_format_at(h.stage[i].format % 5);

		stages[i] = (struct soft_stage){
			.format = format,
			.env =
				{
					.output_bits = 32 + h.stage[i].output_bits % 21,
					.snoop_control = h.stage[i].flags & 1,
					.device_tlb = h.stage[i].flags & 2,
				},
			.tables_in_next = h.stage[i].flags & 4,
			.empty = h.stage[i].flags & 8,
			.root = (uint64_t)h.stage[i].root << 12,
			.load = load,
			.memory = &memory,
		};
		must(!soft_shape_init(format, &(struct soft_shape_spec){0}, NULL,
				      &stages[i].shape));
	}
	/*
	 * Entries that a walk from stage i reads at most: its levels, each after a walk from
	 * the next stage if its tables lie there, and one such walk for the output.
	 */
	for (unsigned int i = n; i-- > 0;)
		most = stages[i].format->levels * (1 + (stages[i].tables_in_next ? most : 0)) +
		       most;
	memcpy(&address, h.address, sizeof(address));
	access = 1u << h.access % 3 | (h.access & 0x80 ? SOFT_USER : 0);
	ok = soft_walk(stages, n, address, access, &trace, &where, &fault);
	must(memory.loads <= most);
	must(trace.n_levels <= SHIM_WALK_MAX && trace.n_levels <= memory.loads);
	for (size_t i = 0; i < trace.n_levels; i++) {
		must(trace.levels[i].stage >= 1 && trace.levels[i].stage <= n);
		must(memchr(trace.levels[i].decoded, 0, sizeof(trace.levels[i].decoded)) != NULL);
	}
	if (ok) {
		must(fault.cause == SHIM_FAULT_NONE);
		must(!(access & ~where.prot));
		must(where.page_size >= SOFT_PAGE_SIZE &&
		     !(where.page_size & (where.page_size - 1)));
		must((where.output & (SOFT_PAGE_SIZE - 1)) == (address & (SOFT_PAGE_SIZE - 1)));
		must(!(where.output >> stages[n - 1].env.output_bits));
	} else {
		must(fault.cause > SHIM_FAULT_NONE && fault.cause <= SHIM_FAULT_ACCESS_FLAG);
		must(fault.stage >= 1 && fault.stage <= n);
		must(fault.level <= stages[fault.stage - 1].format->levels);
	}
	/* The same memory gives the same answer, traced or not. */
	must(soft_walk(stages, n, address, access, NULL, &again, &fault_again) == ok);
	must(again.output == where.output && again.prot == where.prot &&
	     again.page_size == where.page_size && fault_again.cause == fault.cause &&
	     fault_again.entry == fault.entry);
	return 0;
}
