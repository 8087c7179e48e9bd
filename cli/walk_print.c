/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `ioasidctl walk` prints: one line of JSON, or a block of text, for each address; a line
 * for each range; a summary of what was counted.  With -o id an address is answered with what it
 * translates to, or a dash, and nothing else.
 */
#include "walk.h"
#include "output.h"

#include <inttypes.h>
#include <string.h>

/* Of "reserved" and "not-in-image" this tool has names of its own: there is no broker in it. */
const char *walk_cause_name(enum shim_fault_cause cause)
{
	switch (cause) {
	case SHIM_FAULT_NOT_PRESENT:
		return "not-present";
	case SHIM_FAULT_PERMISSION:
		return "permission";
	case SHIM_FAULT_RESERVED_BITS:
		return "reserved";
	case SHIM_FAULT_NON_CANONICAL:
		return "non-canonical";
	case SHIM_FAULT_ADDRESS_WIDTH:
		return "address-width";
	case SHIM_FAULT_OUTPUT_WIDTH:
		return "output-width";
	case SHIM_FAULT_ACCESS_FLAG:
		return "access-flag";
	case SHIM_FAULT_MEMORY_ERROR:
		return "not-in-image";
	case SHIM_FAULT_PARENT_NOT_PRESENT:
		return "parent-not-present";
	case SHIM_FAULT_PARENT_PERMISSION:
		return "parent-permission";
	default:
		return "bad-entry";
	}
}

void walk_perm(uint32_t prot, char ret_perm[5])
{
	ret_perm[0] = prot & SHIM_READ ? 'r' : '-';
	ret_perm[1] = prot & SHIM_WRITE ? 'w' : '-';
	ret_perm[2] = prot & SHIM_EXEC ? 'x' : '-';
	ret_perm[3] = prot & SOFT_USER ? 'u' : '-';
	ret_perm[4] = 0;
}

/* Formats that tell privileged use apart say more than four letters can. */
struct privileged {
	bool tells_execute, tells_use;
	bool execute, use;
};

static struct privileged privileged_of(const struct walk *walk, uint32_t prot)
{
	struct privileged p = {
		.execute = prot & SOFT_PRIVILEGED_EXEC,
		.use = prot & SOFT_PRIVILEGED,
	};

	for (unsigned int i = 0; i < walk->n_stages; i++) {
		p.tells_execute |= walk->stages[i].format->tells_privileged_exec;
		p.tells_use |= walk->stages[i].format->tells_privileged;
	}
	return p;
}

/* ---- an entry ---- */

static const struct soft_stage *stage_of(const struct walk *walk,
					 const struct shim_walk_level *level)
{
	return &walk->stages[level->stage - 1];
}

static void decode(const struct walk *walk, const struct shim_walk_level *level,
		   struct soft_entry *ret)
{
	const struct soft_stage *stage = stage_of(walk, level);

	stage->format->decode(&stage->env, level->level, level->entry, ret);
}

static const char *kind_name(enum soft_entry_kind kind)
{
	switch (kind) {
	case SOFT_ENTRY_TABLE:
		return "table";
	case SOFT_ENTRY_LEAF:
		return "page";
	case SOFT_ENTRY_RESERVED:
		return "reserved";
	case SOFT_ENTRY_WIDTH:
		return "output-width";
	default:
		return "not-present";
	}
}

/* Of an entry that is neither table nor page nobody knows what its bits mean: all are named. */
static bool has_field(const struct soft_field *field, enum soft_entry_kind kind)
{
	if (kind == SOFT_ENTRY_TABLE)
		return field->where & SOFT_IN_TABLE;
	if (kind == SOFT_ENTRY_LEAF)
		return field->where & SOFT_IN_LEAF;
	return true;
}

static uint64_t field_value(const struct soft_field *field, uint64_t entry)
{
	return (entry & field->mask) >> __builtin_ctzll(field->mask);
}

static void level_json(struct walk *walk, const struct shim_walk_level *level)
{
	const char *separator = "";
	FILE *out = walk->cli->out;
	struct soft_entry entry;

	decode(walk, level, &entry);
	fprintf(out,
		"{\"stage\":%u,\"level\":%u,\"table\":\"0x%" PRIx64 "\",\"index\":%" PRIu32
		",\"entry\":\"0x%" PRIx64 "\",\"kind\":\"%s\",\"bits\":{",
		level->stage, level->level, level->table, level->index, level->entry,
		kind_name(entry.kind));
	for (const struct soft_field *f = stage_of(walk, level)->format->fields; f->mask; f++) {
		if (!level->entry || !has_field(f, entry.kind))
			continue;
		fprintf(out, "%s\"%s\":%" PRIu64, separator, f->name, field_value(f, level->entry));
		separator = ",";
	}
	fputs("}}", out);
}

static void level_text(struct walk *walk, const struct shim_walk_level *level)
{
	FILE *out = walk->cli->out;
	struct soft_entry entry;
	char kind[32], size[24];
	int column;

	decode(walk, level, &entry);
	if (entry.kind == SOFT_ENTRY_LEAF)
		snprintf(kind, sizeof(kind), "page %s",
			 render_size(1ull << entry.shift, size, sizeof(size)));
	else
		snprintf(kind, sizeof(kind), "%s", kind_name(entry.kind));
	column = 13 - (int)strlen(kind);
	fputs("  ", out);
	if (walk->n_stages > 1)
		fprintf(out, "stage %u  ", level->stage);
	fprintf(out, "level %u  table 0x%012" PRIx64 "  [%4" PRIu32 "]  0x%016" PRIx64 "  %s",
		level->level, level->table, level->index, level->entry, kind);
	for (const struct soft_field *f = stage_of(walk, level)->format->fields; f->mask; f++) {
		uint64_t value = field_value(f, level->entry);

		if (!value || !has_field(f, entry.kind))
			continue;
		/* The names stand below each other; no line ends in blanks. */
		fprintf(out, "%*s%s", column, "", f->name);
		column = 1;
		/* A single bit's name says that it is set. */
		if (f->mask & (f->mask - 1))
			fprintf(out, "=%" PRIu64, value);
	}
	fputc('\n', out);
}

/* ---- one address ---- */

static void answer_json(struct walk *walk, uint64_t address, const struct shim_walk *trace,
			const struct soft_translation *where, const struct shim_fault *fault,
			const char *cause)
{
	FILE *out = walk->cli->out;
	struct privileged p;
	char perm[5];

	fprintf(out, "{\"address\":\"0x%" PRIx64 "\",", address);
	if (fault) {
		fprintf(out,
			"\"result\":\"fault\",\"cause\":\"%s\",\"level\":%u,\"stage\":%u,"
			"\"input\":\"0x%" PRIx64 "\",\"entry\":\"0x%" PRIx64 "\",",
			cause, fault->level, fault->stage, fault->address, fault->entry);
		if (fault->cause == SHIM_FAULT_MEMORY_ERROR)
			fprintf(out, "\"missing\":\"0x%" PRIx64 "\",", walk->image.state->missing);
	} else {
		p = privileged_of(walk, where->prot);
		walk_perm(where->prot, perm);
		fprintf(out,
			"\"result\":\"ok\",\"output\":\"0x%" PRIx64 "\",\"page_size\":%" PRIu64
			",\"perm\":\"%s\",",
			where->output, where->page_size, perm);
		if (p.tells_execute)
			fprintf(out, "\"privileged_execute\":%s,", p.execute ? "true" : "false");
		if (p.tells_use)
			fprintf(out, "\"privileged\":%s,", p.use ? "true" : "false");
	}
	fputs("\"levels\":[", out);
	for (size_t i = 0; i < trace->n_levels; i++) {
		if (i)
			fputc(',', out);
		level_json(walk, &trace->levels[i]);
	}
	fputs("]}\n", out);
}

static void answer_text(struct walk *walk, uint64_t address, const struct shim_walk *trace,
			const struct soft_translation *where, const struct shim_fault *fault,
			const char *cause)
{
	FILE *out = walk->cli->out;
	struct privileged p;
	char perm[5], size[24];

	fprintf(out, "%s0x%" PRIx64, walk->printed ? "\n" : "", address);
	if (fault) {
		fprintf(out, "  fault: %s", cause);
		if (walk->n_stages > 1 && fault->stage)
			fprintf(out, " at stage %u", fault->stage);
		if (fault->level)
			fprintf(out, "%s level %u",
				walk->n_stages > 1 && fault->stage ? "," : " at", fault->level);
		if (fault->stage > 1)
			fprintf(out, ", for address 0x%" PRIx64, fault->address);
		if (fault->cause == SHIM_FAULT_MEMORY_ERROR)
			fprintf(out, ": the image has nothing at 0x%" PRIx64,
				walk->image.state->missing);
	} else {
		p = privileged_of(walk, where->prot);
		walk_perm(where->prot, perm);
		fprintf(out, "  =>  0x%" PRIx64 "  page %s  %s", where->output,
			render_size(where->page_size, size, sizeof(size)), perm);
		if (p.tells_execute && p.execute)
			fputs("  privileged execute", out);
		if (p.tells_use && !p.use)
			fputs("  unprivileged only", out);
	}
	fputc('\n', out);
	for (size_t i = 0; i < trace->n_levels; i++)
		level_text(walk, &trace->levels[i]);
}

void walk_print_answer(struct walk *walk, uint64_t address, const struct shim_walk *trace,
		       const struct soft_translation *where, const struct shim_fault *fault,
		       const char *cause)
{
	switch (walk->style) {
	case WALK_JSON:
		answer_json(walk, address, trace, where, fault, cause);
		break;
	case WALK_ID:
		if (fault)
			fputs("-\n", walk->cli->out);
		else
			fprintf(walk->cli->out, "0x%" PRIx64 "\n", where->output);
		break;
	default:
		answer_text(walk, address, trace, where, fault, cause);
		break;
	}
	walk->printed = true;
}

/* ---- ranges ---- */

void walk_print_list_head(struct walk *walk)
{
	if (walk->style == WALK_PEOPLE)
		fprintf(walk->cli->out, "%-18s  %8s  %-18s  %4s  %s\n", "ADDRESS", "LENGTH",
			"OUTPUT", "PAGE", "PERM");
}

void walk_print_range(struct walk *walk, const struct walk_range *range)
{
	const struct privileged p = privileged_of(walk, range->prot);
	char perm[5], length[24], size[24];
	FILE *out = walk->cli->out;

	walk->printed = true;
	walk_perm(range->prot, perm);
	if (walk->style == WALK_ID) {
		if (!range->cause)
			fprintf(out, "0x%" PRIx64 "\n", range->address);
		return;
	}
	if (walk->style == WALK_JSON) {
		fprintf(out, "{\"address\":\"0x%" PRIx64 "\",\"length\":%" PRIu64 ",",
			range->address, range->length);
		if (range->cause) {
			fprintf(out, "\"result\":\"fault\",\"cause\":\"%s\"}\n", range->cause);
			return;
		}
		fprintf(out,
			"\"result\":\"ok\",\"output\":\"0x%" PRIx64 "\",\"page_size\":%llu,"
			"\"perm\":\"%s\"",
			range->output, 1ull << range->shift, perm);
		if (p.tells_execute)
			fprintf(out, ",\"privileged_execute\":%s", p.execute ? "true" : "false");
		if (p.tells_use)
			fprintf(out, ",\"privileged\":%s", p.use ? "true" : "false");
		fputs("}\n", out);
		return;
	}
	render_size(range->length, length, sizeof(length));
	if (range->cause) {
		fprintf(out, "0x%016" PRIx64 "  %8s  fault: %s\n", range->address, length,
			range->cause);
		return;
	}
	fprintf(out, "0x%016" PRIx64 "  %8s  0x%016" PRIx64 "  %4s  %s%s%s\n", range->address,
		length, range->output, render_size(1ull << range->shift, size, sizeof(size)), perm,
		p.tells_execute && p.execute ? "  privileged execute" : "",
		p.tells_use && !p.use ? "  unprivileged only" : "");
}

/* ---- what was counted ---- */

static uint64_t pages_of(const struct walk_counts *counts, unsigned int shift)
{
	uint64_t bytes = counts->page_bytes[shift];

	/* Of a page that takes several entries some may be missing. */
	return (bytes >> shift) + (bytes & ((1ull << shift) - 1) ? 1 : 0);
}

static uint64_t bytes_at(const struct soft_stage *stage, unsigned int level)
{
	return level == stage->shape.levels ? soft_shape_root_bytes(&stage->shape)
					    : 1ull << stage->format->granule;
}

static void counts_json(struct walk *walk, const struct soft_stage *stage,
			const struct walk_counts *c, unsigned int number)
{
	const char *separator = "";
	FILE *out = walk->cli->out;
	uint64_t mapped = 0;

	fprintf(out, "{\"stage\":%u,\"format\":\"%s\",\"root\":\"0x%" PRIx64 "\",\"tables\":[",
		number, stage->format->name, stage->root);
	for (unsigned int level = stage->shape.levels; level; level--) {
		if (!c->tables[level])
			continue;
		fprintf(out, "%s{\"level\":%u,\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
			separator, level, c->tables[level],
			c->tables[level] * bytes_at(stage, level));
		separator = ",";
	}
	fprintf(out, "],\"table_bytes\":%" PRIu64 ",\"pages\":[", c->table_bytes);
	separator = "";
	for (unsigned int shift = 0; shift < 64; shift++) {
		if (!c->page_bytes[shift])
			continue;
		fprintf(out, "%s{\"page_size\":%llu,\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
			separator, 1ull << shift, pages_of(c, shift), c->page_bytes[shift]);
		mapped += c->page_bytes[shift];
		separator = ",";
	}
	fprintf(out, "],\"mapped_bytes\":%" PRIu64 ",\"problems\":[", mapped);
	for (size_t i = 0; i < WALK_PROBLEMS_MAX && c->problems[i].cause; i++)
		fprintf(out, "%s{\"cause\":\"%s\",\"entries\":%" PRIu64 "}", i ? "," : "",
			c->problems[i].cause, c->problems[i].entries);
	fputs("]}", out);
}

static void count_line(FILE *out, const char *what, uint64_t count, uint64_t bytes)
{
	char size[24];

	fprintf(out, "  %-22s  %12" PRIu64 "  %10s\n", what, count,
		render_size(bytes, size, sizeof(size)));
}

static void counts_text(struct walk *walk, const struct soft_stage *stage,
			const struct walk_counts *c, unsigned int number)
{
	uint64_t tables = 0, pages = 0, mapped = 0;
	FILE *out = walk->cli->out;
	char what[40], size[24];

	fputs(walk->printed ? "\n" : "", out);
	if (walk->n_stages > 1)
		fprintf(out, "stage %u: ", number);
	fprintf(out, "%s, root 0x%" PRIx64 "\n", stage->format->name, stage->root);
	for (unsigned int level = stage->shape.levels; level; level--) {
		if (!c->tables[level])
			continue;
		snprintf(what, sizeof(what), "tables of level %u", level);
		count_line(out, what, c->tables[level], c->tables[level] * bytes_at(stage, level));
		tables += c->tables[level];
	}
	count_line(out, "tables", tables, c->table_bytes);
	for (unsigned int shift = 0; shift < 64; shift++) {
		if (!c->page_bytes[shift])
			continue;
		snprintf(what, sizeof(what), "pages of %s",
			 render_size(1ull << shift, size, sizeof(size)));
		count_line(out, what, pages_of(c, shift), c->page_bytes[shift]);
		pages += pages_of(c, shift);
		mapped += c->page_bytes[shift];
	}
	count_line(out, "pages", pages, mapped);
	for (size_t i = 0; i < WALK_PROBLEMS_MAX && c->problems[i].cause; i++)
		fprintf(out, "  %-22s  %12" PRIu64 "\n", c->problems[i].cause,
			c->problems[i].entries);
	walk->printed = true;
}

void walk_print_counts(struct walk *walk, const struct walk_counts *counts)
{
	FILE *out = walk->cli->out;

	if (walk->style == WALK_ID)
		return;
	if (walk->style == WALK_JSON)
		fputs("{\"result\":\"stats\",\"stages\":[", out);
	for (unsigned int i = 0; i < walk->n_stages; i++) {
		if (walk->style == WALK_JSON) {
			fputs(i ? "," : "", out);
			counts_json(walk, &walk->stages[i], &counts[i], i + 1);
		} else {
			counts_text(walk, &walk->stages[i], &counts[i], i + 1);
		}
	}
	if (walk->style == WALK_JSON)
		fputs("]}\n", out);
}
