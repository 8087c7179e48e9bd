/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See topology.h; the schema is docs/topology.md.  Every object is read by a table of its
 * members, so that an unknown one is refused, and every refusal names the place, the path
 * and what was expected.
 */

#include "soft/topology.h"

#include "soft/format.h"
#include "soft/json.h"
#include "soft/nesting.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUT_BITS_MIN 32
#define OUTPUT_BITS_MAX 52
#define PASID_BITS_MAX	20
#define IOTLB_MAX	(1u << 20)
#define DEVICE_TLB_MAX	4096

/* VT-d's first stage. */
/* Formats of one architecture, from the first to the last. */
#define FORMATS(first, last) ((2u << (last)) - (1u << (first)))
#define X86_64_FORMATS	     FORMATS(SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_X86_64_5L)
#define AMDV1_FORMATS	     FORMATS(SHIM_FORMAT_AMDV1_1L, SHIM_FORMAT_AMDV1_6L)
#define ARMV8_S1_FORMATS     FORMATS(SHIM_FORMAT_ARMV8_S1_4K, SHIM_FORMAT_ARMV8_S1_64K)
#define RISCV_FORMATS	     FORMATS(SHIM_FORMAT_SV39, SHIM_FORMAT_SV57)

struct parser {
	/* Its path is where we are. */
	struct soft_problem *problem;
	struct soft_topology *topology;
};

struct member {
	const char *name;
	bool required;
	int (*read)(struct parser *p, const struct soft_json *value, void *target);
};

__attribute__((format(printf, 4, 5))) static int refuse_at(struct parser *p, uint32_t line,
							   uint32_t column, const char *format, ...)
{
	va_list args;

	p->problem->line = line;
	p->problem->column = column;
	va_start(args, format);
	vsnprintf(p->problem->message, sizeof(p->problem->message), format, args);
	va_end(args);
	return SOFT_E_TOPOLOGY;
}

/* Goes down to a member or an item; returns what path_leave() goes back to. */
static size_t path_enter(struct parser *p, const char *member)
{
	size_t at = strlen(p->problem->path);

	snprintf(p->problem->path + at, sizeof(p->problem->path) - at, "%s%s", at ? "." : "",
		 member);
	return at;
}

static size_t path_enter_item(struct parser *p, size_t index)
{
	size_t at = strlen(p->problem->path);

	snprintf(p->problem->path + at, sizeof(p->problem->path) - at, "[%zu]", index);
	return at;
}

static void path_leave(struct parser *p, size_t at)
{
	p->problem->path[at] = '\0';
}

#define REFUSE(p, value, ...) refuse_at(p, (value)->line, (value)->column, __VA_ARGS__)

static int expect(struct parser *p, const struct soft_json *value, enum soft_json_type type)
{
	if (value->type == type)
		return 0;
	return REFUSE(p, value, "expected %s, found %s", soft_json_type_name(type),
		      soft_json_type_name(value->type));
}

static const struct soft_json *member_of(const struct soft_json *object, const char *name)
{
	const struct soft_json *member = object->first;

	while (member && strcmp(member->key, name))
		member = member->next;
	return member;
}

static int read_members(struct parser *p, const struct soft_json *object,
			const struct member *members, size_t n, void *target)
{
	const struct soft_json *child;
	int r = expect(p, object, SOFT_JSON_OBJECT);

	if (r)
		return r;
	for (child = object->first; child; child = child->next) {
		size_t i = 0;

		while (i < n && strcmp(child->key, members[i].name))
			i++;
		if (i == n)
			return refuse_at(p, child->key_line, child->key_column,
					 "unknown member \"%.64s\"", child->key);
	}
	/* In the table's order, so that a member may rely on those before it. */
	for (size_t i = 0; i < n; i++) {
		size_t at;

		child = member_of(object, members[i].name);
		if (!child && members[i].required)
			return REFUSE(p, object, "\"%s\" is missing", members[i].name);
		if (!child)
			continue;
		at = path_enter(p, members[i].name);
		r = members[i].read(p, child, target);
		if (r)
			return r;
		path_leave(p, at);
	}
	return 0;
}

static int read_number(struct parser *p, const struct soft_json *value, uint64_t least,
		       uint64_t most, uint64_t *ret)
{
	int r = expect(p, value, SOFT_JSON_NUMBER);

	if (r)
		return r;
	if ((value->negative && value->number) || value->number < least || value->number > most)
		return REFUSE(p, value, "expected a number from %llu to %llu, found %s%llu",
			      (unsigned long long)least, (unsigned long long)most,
			      value->negative ? "-" : "", (unsigned long long)value->number);
	*ret = value->number;
	return 0;
}

static int read_bool(struct parser *p, const struct soft_json *value, bool *ret)
{
	int r = expect(p, value, SOFT_JSON_BOOL);

	if (!r)
		*ret = value->truth;
	return r;
}

/* A name that may be shown anywhere: printable ASCII, not empty, fits. */
static int read_name(struct parser *p, const struct soft_json *value, char *out, size_t size,
		     bool spaces)
{
	int r = expect(p, value, SOFT_JSON_STRING);

	if (r)
		return r;
	if (!value->length || value->length >= size)
		return REFUSE(p, value, "expected 1 to %zu characters, found %zu", size - 1,
			      value->length);
	for (size_t i = 0; i < value->length; i++) {
		char c = value->string[i];

		if (c < (spaces ? ' ' : '!') || c > '~')
			return REFUSE(p, value, "expected printable ASCII%s",
				      spaces ? "" : " without spaces");
	}
	memcpy(out, value->string, value->length + 1);
	return 0;
}

/* Exactly n lower-case hexadecimal digits. */
static bool take_hex(const char **at, unsigned int n, uint32_t *ret)
{
	uint32_t value = 0;

	while (n--) {
		char c = *(*at);

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint32_t)(c - 'a' + 10);
		else
			return false;
		++*at;
	}
	*ret = value;
	return true;
}

/* An address: a number, or a string "0x..." of 1 to 16 digits. */
static int read_address(struct parser *p, const struct soft_json *value, uint64_t *ret)
{
	uint64_t address = 0;

	if (value->type == SOFT_JSON_NUMBER)
		return read_number(p, value, 0, UINT64_MAX, ret);
	if (value->type != SOFT_JSON_STRING || value->length < 3 || value->length > 18 ||
	    strncmp(value->string, "0x", 2))
		return REFUSE(p, value, "expected a number or a string like \"0xfee00000\"");
	for (const char *c = value->string + 2; *c; c++) {
		uint32_t digit;
		const char *at = c;
		char lower[2] = {*c >= 'A' && *c <= 'F' ? (char)(*c + 32) : *c, '\0'};

		at = lower;
		if (!take_hex(&at, 1, &digit))
			return REFUSE(p, value, "not a hexadecimal digit in an address");
		address = address << 4 | digit;
	}
	*ret = address;
	return 0;
}

static int read_formats(struct parser *p, const struct soft_json *value, uint32_t *ret)
{
	const struct soft_format *format;
	uint32_t formats = 0;
	size_t index = 0;
	int r = expect(p, value, SOFT_JSON_ARRAY);

	if (r)
		return r;
	if (!value->first)
		return REFUSE(p, value, "expected at least one format");
	for (const struct soft_json *item = value->first; item; item = item->next) {
		size_t at = path_enter_item(p, index++);

		r = expect(p, item, SOFT_JSON_STRING);
		if (r)
			return r;
		format = soft_format_by_name(item->string, item->length);
		if (!format)
			return REFUSE(p, item, "unknown page-table format \"%.32s\"", item->string);
		if (formats & 1u << format->id)
			return REFUSE(p, item, "format \"%s\" stands here twice", format->name);
		formats |= 1u << format->id;
		path_leave(p, at);
	}
	*ret = formats;
	return 0;
}

/* ---- reserved ranges ---- */

struct ranges {
	struct shim_range *ranges;
	size_t *n;
};

static int range_start(struct parser *p, const struct soft_json *value, void *target)
{
	return read_address(p, value, &((struct shim_range *)target)->start);
}

static int range_last(struct parser *p, const struct soft_json *value, void *target)
{
	return read_address(p, value, &((struct shim_range *)target)->last);
}

static int range_use(struct parser *p, const struct soft_json *value, void *target)
{
	struct shim_range *range = target;

	return read_name(p, value, range->use, sizeof(range->use), false);
}

static int read_reserved(struct parser *p, const struct soft_json *value, struct ranges *out)
{
	static const struct member members[] = {
		{"start", true, range_start},
		{"last", true, range_last},
		{"use", true, range_use},
	};
	size_t index = 0;
	int r = expect(p, value, SOFT_JSON_ARRAY);

	if (r)
		return r;
	for (const struct soft_json *item = value->first; item; item = item->next) {
		size_t at = path_enter_item(p, index++);
		struct shim_range range = {0};

		if (*out->n == SHIM_RESERVED_MAX)
			return REFUSE(p, item, "more than %d reserved ranges", SHIM_RESERVED_MAX);
		r = read_members(p, item, members, 3, &range);
		if (r)
			return r;
		if (range.last < range.start)
			return REFUSE(p, item, "the range ends before it starts");
		if (range.start % SOFT_PAGE_SIZE || (range.last + 1) % SOFT_PAGE_SIZE)
			return REFUSE(p, item, "the range does not consist of whole 4 KiB pages");
		for (size_t i = 0; i < *out->n; i++)
			if (range.start <= out->ranges[i].last &&
			    out->ranges[i].start <= range.last)
				return REFUSE(p, item, "overlaps another reserved range");
		out->ranges[(*out->n)++] = range;
		path_leave(p, at);
	}
	return 0;
}

/* ---- IOMMUs ---- */

static int iommu_name(struct parser *p, const struct soft_json *value, void *target)
{
	struct soft_iommu_desc *iommu = target;
	int r = read_name(p, value, iommu->name, sizeof(iommu->name), false);

	for (size_t i = 0; !r && i < p->topology->n_iommus; i++)
		if (!strcmp(p->topology->iommus[i].name, iommu->name))
			r = REFUSE(p, value, "another IOMMU has the name \"%s\"", iommu->name);
	return r;
}

static int iommu_formats(struct parser *p, const struct soft_json *value, void *target)
{
	return read_formats(p, value, &((struct soft_iommu_desc *)target)->formats);
}

static int iommu_output_bits(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t bits = 0;
	int r = read_number(p, value, OUTPUT_BITS_MIN, OUTPUT_BITS_MAX, &bits);

	if (!r)
		((struct soft_iommu_desc *)target)->output_bits = (uint8_t)bits;
	return r;
}

static int iommu_pasid_bits(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t bits = 0;
	int r = read_number(p, value, 0, PASID_BITS_MAX, &bits);

	if (!r)
		((struct soft_iommu_desc *)target)->pasid_bits = (uint8_t)bits;
	return r;
}

static int iommu_max_depth(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t depth = 0;
	int r = read_number(p, value, 1, SOFT_DEPTH_MAX, &depth);

	if (!r)
		((struct soft_iommu_desc *)target)->max_depth = (uint8_t)depth;
	return r;
}

static int iommu_snoop_control(struct parser *p, const struct soft_json *value, void *target)
{
	return read_bool(p, value, &((struct soft_iommu_desc *)target)->snoop_control);
}

static int iommu_lpa2(struct parser *p, const struct soft_json *value, void *target)
{
	return read_bool(p, value, &((struct soft_iommu_desc *)target)->lpa2);
}

static int iommu_access_dirty(struct parser *p, const struct soft_json *value, void *target)
{
	return read_bool(p, value, &((struct soft_iommu_desc *)target)->access_dirty);
}

static int iommu_page_requests(struct parser *p, const struct soft_json *value, void *target)
{
	return read_bool(p, value, &((struct soft_iommu_desc *)target)->page_requests);
}

static int iommu_iotlb(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t entries = 0;
	int r = read_number(p, value, 4, IOTLB_MAX, &entries);

	if (!r)
		((struct soft_iommu_desc *)target)->iotlb_entries = (uint32_t)entries;
	return r;
}

static int iommu_device_tlb(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t entries = 0;
	int r = read_number(p, value, 0, DEVICE_TLB_MAX, &entries);

	if (!r)
		((struct soft_iommu_desc *)target)->device_tlb_entries = (uint32_t)entries;
	return r;
}

static int iommu_reserved(struct parser *p, const struct soft_json *value, void *target)
{
	struct soft_iommu_desc *iommu = target;

	return read_reserved(p, value, &(struct ranges){iommu->reserved, &iommu->n_reserved});
}

static const struct member iommu_members[] = {
	{"name", true, iommu_name},
	{"formats", true, iommu_formats},
	{"output_bits", false, iommu_output_bits},
	{"pasid_bits", false, iommu_pasid_bits},
	{"max_depth", false, iommu_max_depth},
	{"snoop_control", false, iommu_snoop_control},
	{"access_dirty", false, iommu_access_dirty},
	{"lpa2", false, iommu_lpa2},
	{"page_requests", false, iommu_page_requests},
	{"iotlb_entries", false, iommu_iotlb},
	{"device_tlb_entries", false, iommu_device_tlb},
	{"reserved", false, iommu_reserved},
};

static int read_iommus(struct parser *p, const struct soft_json *value, void *target)
{
	struct soft_topology *t = p->topology;
	int r = expect(p, value, SOFT_JSON_ARRAY);

	if (r)
		return r;
	if (!value->length || value->length > SOFT_IOMMUS_MAX)
		return REFUSE(p, value, "expected 1 to %d IOMMUs, found %zu", SOFT_IOMMUS_MAX,
			      value->length);
	t->iommus = calloc(value->length, sizeof(*t->iommus));
	if (!t->iommus)
		return -ENOMEM;
	for (const struct soft_json *item = value->first; item; item = item->next) {
		struct soft_iommu_desc *iommu = &t->iommus[t->n_iommus];
		size_t at = path_enter_item(p, t->n_iommus);

		*iommu = (struct soft_iommu_desc){
			.output_bits = 48,
			.max_depth = SOFT_DEPTH_MAX,
			.iotlb_entries = 1024,
		};
		r = read_members(p, item, iommu_members,
				 sizeof(iommu_members) / sizeof(iommu_members[0]), iommu);
		if (r)
			return r;
		t->n_iommus++;
		path_leave(p, at);
	}
	return 0;
}

/* ---- devices ---- */

/* What a device's description says before its IOMMU is known. */
struct device_draft {
	struct soft_device_desc *desc;
	bool has_iommu, has_pasid_bits, has_formats;
	bool no_snoop, no_device_tlb, no_page_requests;
	uint32_t pasid_bits;
	const struct soft_json *formats_at, *pasid_bits_at, *reserved_at;
	struct shim_range reserved[SHIM_RESERVED_MAX];
	size_t n_reserved;
};

/* domain:bus:device.function, as the PCI bus writes it. */
static bool is_pci_address(const char *s)
{
	uint32_t domain, bus, device;

	return take_hex(&s, 4, &domain) && *s++ == ':' && take_hex(&s, 2, &bus) && *s++ == ':' &&
	       take_hex(&s, 2, &device) && device < 32 && *s++ == '.' && *s >= '0' && *s <= '7' &&
	       !s[1];
}

static int device_address(struct parser *p, const struct soft_json *value, void *target)
{
	struct shim_device_info *info = &((struct device_draft *)target)->desc->info;
	int r = read_name(p, value, info->address, sizeof(info->address), false);

	if (!r && !is_pci_address(info->address))
		r = REFUSE(p, value, "expected an address like \"0000:3b:00.0\", in lower case");
	return r;
}

static int device_ids(struct parser *p, const struct soft_json *value, void *target)
{
	struct shim_device_info *info = &((struct device_draft *)target)->desc->info;
	uint32_t vendor, device;
	const char *s;
	int r = expect(p, value, SOFT_JSON_STRING);

	if (r)
		return r;
	s = value->string;
	if (!take_hex(&s, 4, &vendor) || *s++ != ':' || !take_hex(&s, 4, &device) || *s)
		return REFUSE(p, value, "expected ids like \"8086:10fb\", in lower case");
	info->vendor = (uint16_t)vendor;
	info->device = (uint16_t)device;
	return 0;
}

static int device_class(struct parser *p, const struct soft_json *value, void *target)
{
	struct shim_device_info *info = &((struct device_draft *)target)->desc->info;
	const char *s;
	int r = expect(p, value, SOFT_JSON_STRING);

	if (r)
		return r;
	s = value->string;
	if (!take_hex(&s, 6, &info->class_code) || *s)
		return REFUSE(p, value, "expected a class like \"020000\", in lower case");
	return 0;
}

static int device_iommu(struct parser *p, const struct soft_json *value, void *target)
{
	struct device_draft *draft = target;
	struct soft_topology *t = p->topology;
	int r = expect(p, value, SOFT_JSON_STRING);

	if (r)
		return r;
	for (size_t i = 0; i < t->n_iommus; i++) {
		if (!strcmp(t->iommus[i].name, value->string)) {
			draft->desc->iommu = (uint32_t)i;
			memcpy(draft->desc->info.iommu, t->iommus[i].name, SHIM_NAME_MAX);
			return 0;
		}
	}
	return REFUSE(p, value, "no IOMMU has the name \"%.32s\"", value->string);
}

static int device_group(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t group = 0;
	int r = read_number(p, value, 0, UINT32_MAX, &group);

	if (!r)
		((struct device_draft *)target)->desc->info.group = (uint32_t)group;
	return r;
}

static int device_numa_node(struct parser *p, const struct soft_json *value, void *target)
{
	struct shim_device_info *info = &((struct device_draft *)target)->desc->info;
	uint64_t node = 0;
	int r;

	if (value->type == SOFT_JSON_NUMBER && value->negative && value->number == 1)
		return 0; /* -1: unknown, as it is without the member */
	r = read_number(p, value, 0, 1023, &node);
	if (!r)
		info->numa_node = (int32_t)node;
	return r;
}

static int device_host_use(struct parser *p, const struct soft_json *value, void *target)
{
	struct shim_device_info *info = &((struct device_draft *)target)->desc->info;

	return read_name(p, value, info->host_use, sizeof(info->host_use), true);
}

static int device_formats(struct parser *p, const struct soft_json *value, void *target)
{
	struct device_draft *draft = target;

	draft->formats_at = value;
	return read_formats(p, value, &draft->desc->formats);
}

static int device_pasid_bits(struct parser *p, const struct soft_json *value, void *target)
{
	struct device_draft *draft = target;
	uint64_t bits = 0;
	int r = read_number(p, value, 0, PASID_BITS_MAX, &bits);

	draft->pasid_bits_at = value;
	draft->pasid_bits = (uint32_t)bits;
	return r;
}

static int device_snoop_control(struct parser *p, const struct soft_json *value, void *target)
{
	bool has;
	int r = read_bool(p, value, &has);

	if (!r && has)
		return REFUSE(p, value, "only false: a device can lack what its IOMMU has");
	((struct device_draft *)target)->no_snoop = true;
	return r;
}

static int device_device_tlb(struct parser *p, const struct soft_json *value, void *target)
{
	bool has;
	int r = read_bool(p, value, &has);

	if (!r && has)
		return REFUSE(p, value, "only false: a device can lack what its IOMMU has");
	((struct device_draft *)target)->no_device_tlb = true;
	return r;
}

static int device_page_requests(struct parser *p, const struct soft_json *value, void *target)
{
	bool has;
	int r = read_bool(p, value, &has);

	if (!r && has)
		return REFUSE(p, value, "only false: a device can lack what its IOMMU has");
	((struct device_draft *)target)->no_page_requests = true;
	return r;
}

static int device_reserved(struct parser *p, const struct soft_json *value, void *target)
{
	struct device_draft *draft = target;

	draft->reserved_at = value;
	return read_reserved(p, value, &(struct ranges){draft->reserved, &draft->n_reserved});
}

static const struct member device_members[] = {
	{"address", true, device_address},
	{"vendor_device", true, device_ids},
	{"class", true, device_class},
	{"iommu", true, device_iommu},
	{"group", true, device_group},
	{"numa_node", false, device_numa_node},
	{"host_use", false, device_host_use},
	{"formats", false, device_formats},
	{"pasid_bits", false, device_pasid_bits},
	{"snoop_control", false, device_snoop_control},
	{"device_tlb", false, device_device_tlb},
	{"page_requests", false, device_page_requests},
	{"reserved", false, device_reserved},
};

static void fill_absent(struct shim_caps *caps, const struct soft_iommu_desc *iommu)
{
	const char *name = iommu->name;

#define ABSENT(feature, ...) snprintf(caps->feature_absent[feature], SHIM_REASON_MAX, __VA_ARGS__)
	if (!caps->pasid_bits)
		ABSENT(SHIM_FEATURE_PASID, "the topology gives it no PASIDs behind %s", name);
	if (!caps->recoverable_faults)
		ABSENT(SHIM_FEATURE_FAULTS, "the topology gives it no page requests behind %s",
		       name);
	if (!caps->dirty_tracking)
		ABSENT(SHIM_FEATURE_DIRTY, "the topology lets %s not keep accessed and dirty bits",
		       name);
	if (caps->max_depth < 2)
		ABSENT(SHIM_FEATURE_NESTING, "the topology lets %s not nest", name);
	if (!caps->snoop_control)
		ABSENT(SHIM_FEATURE_SNOOP, "the topology lets %s not control snooping", name);
	ABSENT(SHIM_FEATURE_DEVICE_FD, "a simulated device has no fd");
#undef ABSENT
}

static bool is_ept(enum shim_format format)
{
	return format == SHIM_FORMAT_EPT_4L || format == SHIM_FORMAT_EPT_5L;
}

/* What belongs to tables that tenants write, by the architecture that the formats are of. */
static void fill_tenant_caps(struct soft_device_desc *desc)
{
	static const struct {
		uint32_t formats, beside, not_beside; /* of each group one; none */
		uint32_t native, pasid_table;
	} rules[] = {
		{X86_64_FORMATS, X86_64_FORMATS, AMDV1_FORMATS, 1u << SHIM_NATIVE_VTD_S1,
		 1u << SHIM_PASID_VTD},
		{X86_64_FORMATS, AMDV1_FORMATS, 0, 0, 1u << SHIM_PASID_AMD_GCR3},
		{ARMV8_S1_FORMATS, ARMV8_S1_FORMATS, 0, 1u << SHIM_NATIVE_SMMUV3,
		 1u << SHIM_PASID_SMMUV3_CD},
		{RISCV_FORMATS, RISCV_FORMATS, 0, 0, 1u << SHIM_PASID_RISCV_PDT},
	};
	struct shim_caps *caps = &desc->info.caps;

	if (caps->max_depth < 2)
		return;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!(desc->formats & rules[i].formats) || !(desc->formats & rules[i].beside) ||
		    desc->formats & rules[i].not_beside)
			continue;
		caps->native_invalidations |= rules[i].native;
		if (caps->pasid_bits)
			caps->pasid_tables |= rules[i].pasid_table;
	}
	if (caps->pasid_tables)
		caps->invalidations |= 1u << SHIM_INVALIDATE_PASID_CACHE;
}

/* Formats of these that are a parent to one of them. */
static uint32_t parents_among(uint32_t formats)
{
	uint32_t parents = 0;

	for (uint32_t left = formats; left; left &= left - 1)
		parents |= soft_nesting_parents((enum shim_format)__builtin_ctz(left));
	return parents & formats;
}

static void fill_caps(struct soft_device_desc *desc, const struct soft_iommu_desc *iommu)
{
	struct shim_caps *caps = &desc->info.caps;
	const struct soft_format *format;
	uint32_t parents = caps->max_depth > 1 ? parents_among(desc->formats) : 0;
	bool has_ept = false;

	for (size_t i = 0; (format = soft_format_at(i)); i++) {
		if (!(desc->formats & 1u << format->id))
			continue;
		has_ept = has_ept || is_ept(format->id);
		caps->formats[caps->n_formats++] = (struct shim_format_cap){
			.format = format->id,
			.input_bits = iommu->lpa2 && format->input_bits_max ? format->input_bits_max
									    : format->input_bits,
			.output_bits = iommu->output_bits,
			.page_sizes = format->page_sizes,
			.access_dirty = iommu->access_dirty && format->use,
			.execute = format->execute,
			.nest_child = parents & soft_nesting_parents(format->id),
			.nest_parent = parents & 1u << format->id,
			.nest_on = soft_nesting_parents(format->id),
			.table_bits_least = format->input_bits_min,
		};
	}
	caps->invalidations = 1u << SHIM_INVALIDATE_ALL | 1u << SHIM_INVALIDATE_RANGE;
	if (caps->pasid_bits)
		caps->invalidations |= 1u << SHIM_INVALIDATE_PASID;
	if (caps->device_tlb)
		caps->invalidations |= 1u << SHIM_INVALIDATE_DEVICE_TLB;
	fill_tenant_caps(desc);
	if (caps->max_depth < 2)
		snprintf(caps->kind_absent[SHIM_KIND_USER], SHIM_REASON_MAX,
			 "kind USER needs a parent, and the topology lets %s not nest",
			 iommu->name);
	if (!has_ept)
		snprintf(caps->kind_absent[SHIM_KIND_KVM], SHIM_REASON_MAX,
			 "the topology gives it no EPT behind %s", iommu->name);
	fill_absent(caps, iommu);
}

static int refuse_member(struct parser *p, const char *member, const struct soft_json *value,
			 const char *message)
{
	path_enter(p, member);
	return REFUSE(p, value, "%s", message);
}

/* Joins what the device says with what its IOMMU has. */
static int finish_device(struct parser *p, struct device_draft *draft)
{
	struct soft_device_desc *desc = draft->desc;
	const struct soft_iommu_desc *iommu = &p->topology->iommus[desc->iommu];
	struct shim_caps *caps = &desc->info.caps;

	if (!draft->formats_at)
		desc->formats = iommu->formats;
	else if (desc->formats & ~iommu->formats)
		return refuse_member(p, "formats", draft->formats_at,
				     "names a format that its IOMMU lacks");
	if (!draft->pasid_bits_at)
		caps->pasid_bits = iommu->pasid_bits;
	else if (draft->pasid_bits > iommu->pasid_bits)
		return refuse_member(p, "pasid_bits", draft->pasid_bits_at,
				     "more than its IOMMU has");
	else
		caps->pasid_bits = (uint8_t)draft->pasid_bits;
	caps->max_depth = iommu->max_depth;
	caps->snoop_control = iommu->snoop_control && !draft->no_snoop;
	caps->device_tlb = iommu->device_tlb_entries && !draft->no_device_tlb;
	caps->dirty_tracking = iommu->access_dirty;
	caps->recoverable_faults = iommu->page_requests && !draft->no_page_requests;
	memcpy(caps->reserved, iommu->reserved, sizeof(caps->reserved));
	caps->n_reserved = iommu->n_reserved;
	for (size_t i = 0; i < draft->n_reserved; i++) {
		if (caps->n_reserved == SHIM_RESERVED_MAX)
			return refuse_member(p, "reserved", draft->reserved_at,
					     "too many ranges with those of its IOMMU");
		for (size_t k = 0; k < iommu->n_reserved; k++)
			if (draft->reserved[i].start <= iommu->reserved[k].last &&
			    iommu->reserved[k].start <= draft->reserved[i].last)
				return refuse_member(p, "reserved", draft->reserved_at,
						     "overlaps a reserved range of its IOMMU");
		caps->reserved[caps->n_reserved++] = draft->reserved[i];
	}
	fill_caps(desc, iommu);
	return 0;
}

static int read_devices(struct parser *p, const struct soft_json *value, void *target)
{
	struct soft_topology *t = p->topology;
	int r = expect(p, value, SOFT_JSON_ARRAY);

	if (r)
		return r;
	if (value->length > SOFT_DEVICES_MAX)
		return REFUSE(p, value, "expected at most %d devices, found %zu", SOFT_DEVICES_MAX,
			      value->length);
	t->devices = calloc(value->length ? value->length : 1, sizeof(*t->devices));
	if (!t->devices)
		return -ENOMEM;
	for (const struct soft_json *item = value->first; item; item = item->next) {
		struct device_draft draft = {.desc = &t->devices[t->n_devices]};
		size_t at = path_enter_item(p, t->n_devices);

		draft.desc->info.numa_node = -1;
		r = read_members(p, item, device_members,
				 sizeof(device_members) / sizeof(device_members[0]), &draft);
		if (!r)
			r = finish_device(p, &draft);
		if (r)
			return r;
		t->n_devices++;
		path_leave(p, at);
	}
	return 0;
}

/* ---- the document ---- */

static int read_version(struct parser *p, const struct soft_json *value, void *target)
{
	uint64_t version;

	return read_number(p, value, 1, 1, &version);
}

static const struct member document_members[] = {
	{"version", true, read_version},
	{"iommus", true, read_iommus},
	{"devices", true, read_devices},
};

static int compare_addresses(const void *a, const void *b, void *topology)
{
	const struct soft_topology *t = topology;

	return strcmp(t->devices[*(const uint32_t *)a].info.address,
		      t->devices[*(const uint32_t *)b].info.address);
}

static int index_devices(struct parser *p, const struct soft_json *document)
{
	struct soft_topology *t = p->topology;
	const struct soft_json *item;

	t->by_address = calloc(t->n_devices + 1, sizeof(*t->by_address));
	if (!t->by_address)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_devices; i++)
		t->by_address[i] = (uint32_t)i;
	qsort_r(t->by_address, t->n_devices, sizeof(*t->by_address), compare_addresses, t);
	for (size_t i = 1; i < t->n_devices; i++) {
		uint32_t a = t->by_address[i - 1], b = t->by_address[i];

		if (compare_addresses(&a, &b, t))
			continue;
		item = member_of(document, "devices")->first;
		for (uint32_t k = a > b ? a : b; k; k--)
			item = item->next;
		path_enter(p, "devices");
		path_enter_item(p, a > b ? a : b);
		path_enter(p, "address");
		return REFUSE(p, member_of(item, "address"),
			      "another device has the address \"%s\"", t->devices[a].info.address);
	}
	return 0;
}

void soft_topology_free(struct soft_topology *topology)
{
	if (!topology)
		return;
	free(topology->iommus);
	free(topology->devices);
	free(topology->by_address);
	free(topology);
}

int soft_topology_parse(const char *text, size_t length, struct soft_topology **ret_topology,
			struct soft_problem *ret_problem)
{
	struct parser p = {.problem = ret_problem};
	struct soft_json *document;
	int r;

	r = soft_json_parse(text, length, &document, ret_problem);
	if (r)
		return r;
	p.topology = calloc(1, sizeof(*p.topology));
	if (!p.topology) {
		soft_json_free(document);
		return -ENOMEM;
	}
	ret_problem->path[0] = '\0';
	r = read_members(&p, document, document_members, 3, NULL);
	if (!r)
		r = index_devices(&p, document);
	soft_json_free(document);
	if (r) {
		soft_topology_free(p.topology);
		return r;
	}
	*ret_topology = p.topology;
	return 0;
}

size_t soft_topology_find(const struct soft_topology *topology, const char *address)
{
	size_t low = 0, high = topology->n_devices;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		uint32_t index = topology->by_address[middle];
		int order = strcmp(address, topology->devices[index].info.address);

		if (!order)
			return index;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return topology->n_devices;
}
