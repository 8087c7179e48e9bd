/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negotiation: which page-table format suits every device, the policy and the request.
 *
 * Candidates are tried in the client's order; the first that nobody refuses is taken, and
 * every one passed over is reported with who refused it and why.  Reads only: it charges
 * nothing and changes nothing, so Negotiate and Alloc share it whole.  State thread.
 */
#include "server/broker/negotiate.h"

#include "server/broker/device.h"
#include "server/broker/dma_service.h"
#include "server/broker/ioasid.h"
#include "server/broker/iova_ranges.h"
#include "server/broker/lease.h"
#include "server/broker/vm.h"

#include "vocab.h"

#include <stdio.h>
#include <string.h>

const struct shim_format_cap *device_format(const struct device *device, enum shim_format format)
{
	const struct shim_caps *caps = &device->info->caps;

	for (size_t i = 0; i < caps->n_formats; i++)
		if (caps->formats[i].format == format)
			return &caps->formats[i];
	return NULL;
}

static const char *format_name(enum shim_format format)
{
	return vocab_format_name((Ioasid__V1__PageTableFormat)format);
}

const char *device_nesting_obstacle(struct scratch *scratch, const struct device *device,
				    const struct ioasid *parent, unsigned depth)
{
	if (depth > device->info->caps.max_depth)
		return scratch_printf(scratch,
				      "its IOMMU %s nests to depth %u, depth %u is asked for",
				      device->info->iommu, device->info->caps.max_depth, depth);
	for (; parent; parent = parent->parent) {
		const struct shim_format_cap *cap = device_format(device, parent->choice.format);

		if (!cap || !cap->nest_parent)
			return scratch_printf(
				scratch, "its IOMMU %s cannot use a parent of format %s",
				device->info->iommu, format_name(parent->choice.format));
	}
	return NULL;
}

/* ---- checks of the request ---- */

static int check_kind(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
		      struct negotiation *n)
{
	struct policy_verdict verdict;
	const char *absent = NULL;
	bool found = false;

	if (q->kind == IOASID__V1__IOASID_KIND__IOASID_KIND_UNSPECIFIED)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "kind", "must be given");
	n->kind = (enum shim_kind)q->kind;
	if (!call->tenant->policy)
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "the tenant is no longer in the policy");
	policy_kind_verdict(call->tenant->policy, q->kind, &verdict);
	if (!verdict.allowed)
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "kind %s: policy of %s forbids it (%s)", vocab_kind_name(q->kind),
			      verdict.tenant[0] ? verdict.tenant : "the host", verdict.rule);
	/* Every named device must have the kind; without named ones, some device. */
	for (size_t i = 0; i < n->n_suited; i++) {
		const char *why = n->suited[i]->info->caps.kind_absent[n->kind];

		if (why[0])
			absent = absent ?: why;
		else
			found = true;
	}
	if (n->n_devices ? absent != NULL : !found && (absent || n->kind != SHIM_KIND_KERNEL))
		return refuse(call, OUTCOME_UNIMPLEMENTED, "kind %s: %s", vocab_kind_name(q->kind),
			      absent ?: "no device that this tenant may have can use it");
	if (n->kind != SHIM_KIND_USER && q->table)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "table", "only for kind user");
	if (n->kind != SHIM_KIND_KVM && q->vm)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "vm", "only for kind kvm");
	return OUTCOME_OK;
}

/* The CPU's table, whatever its format; what it lacks and has is the process's own affair. */
static int check_process(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
			 struct negotiation *n)
{
	if (n->kind != SHIM_KIND_PROCESS)
		return OUTCOME_OK;
	if (q->parent)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "parent",
				    "a process's address space has no parent");
	if (q->faults)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "faults",
				    "pages are the process's own to fetch");
	if (q->dirty_tracking)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "dirty_tracking",
				    "no table of a process's is kept here");
	if (q->n_candidates)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "candidates",
				    "the table is the CPU's: there is no choice of format");
	if (!dma_service_of_caller(call))
		return refuse_precondition(call, OUTCOME_WRONG_STATE, "process",
					   "the calling process has no DMA service in this lease: "
					   "OpenDmaService comes first");
	return OUTCOME_OK;
}

/* A VM's table is the VM's: it hangs on nothing, and a miss is the VM's own to handle. */
static int check_vm(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
		    struct negotiation *n)
{
	if (n->kind != SHIM_KIND_KVM)
		return OUTCOME_OK;
	if (q->parent)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "parent",
				    "a VM's table has no parent");
	if (q->faults)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "faults",
				    "a VM answers its page requests by itself");
	if (q->dirty_tracking)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "dirty_tracking",
				    "a VM's dirty pages are tracked by the VM");
	n->vm = vm_find(call->lease, q->vm);
	return n->vm ? OUTCOME_OK : refuse_id(call, "vm", "VM", q->vm);
}

static int check_devices(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
			 struct negotiation *n)
{
	struct broker *broker = call->broker;
	struct policy_verdict verdict;
	char field[32];

	if (q->n_devices > NEGOTIATE_DEVICES_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "devices", "at most %d, found %zu",
				    NEGOTIATE_DEVICES_MAX, q->n_devices);
	for (size_t i = 0; i < q->n_devices; i++) {
		struct device *d = device_find(broker, q->devices[i]);

		snprintf(field, sizeof(field), "devices[%zu]", i);
		if (!q->devices[i][0])
			return refuse_field(call, OUTCOME_INVALID_FIELD, field, "empty");
		if (!d)
			return refuse(call, OUTCOME_NOT_FOUND, "no device \"%s\"", q->devices[i]);
		for (size_t k = 0; k < n->n_devices; k++)
			if (n->devices[k] == d)
				return refuse_field(call, OUTCOME_INVALID_FIELD, field,
						    "\"%s\" is named twice", d->info->address);
		n->devices[n->n_devices++] = d;
	}
	for (size_t i = 0; i < n->n_devices; i++)
		if (!call->lease || n->devices[i]->lease != call->lease)
			return refuse_precondition(call, OUTCOME_NOT_CLAIMED,
						   n->devices[i]->info->address,
						   "not claimed by this lease");
	if (n->n_devices) {
		n->suited = n->devices;
		n->n_suited = n->n_devices;
		return OUTCOME_OK;
	}
	n->suited = scratch_calloc(&call->scratch, broker->n_devices, sizeof(*n->suited));
	if (!n->suited)
		return refuse_no_memory(call);
	for (size_t i = 0; i < broker->n_devices; i++)
		if (device_is_allowed(&broker->devices[i], call->tenant, &verdict))
			n->suited[n->n_suited++] = &broker->devices[i];
	return OUTCOME_OK;
}

/*
 * A structural maximum of the tenant's chain, of which `used` is taken.  A dry run is not
 * counted as a refusal.
 */
static int check_ceiling(struct broker_call *call, enum quota_resource r, uint64_t used)
{
	struct quota_node *node = &call->tenant->quota;
	struct quota_refusal refusal = {.resource = r, .used = used, .requested = 1};

	refusal.limit = quota_ceiling(node, r, &refusal.node);
	if (used < refusal.limit)
		return OUTCOME_OK;
	if (call->method->flags & METHOD_MUTATES)
		quota_ceiling_check(node, r, used + 1, &(struct quota_refusal){0});
	return refuse_quota(call, &refusal);
}

static int check_parent(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
			struct negotiation *n)
{
	int r;

	n->depth = 1;
	if (!q->parent && n->kind == SHIM_KIND_USER)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "parent",
				    "a table that the tenant writes is nested on a parent");
	if (!q->parent)
		return check_ceiling(call, QUOTA_NESTING_DEPTH, 0);
	n->parent = ioasid_find(call->lease, q->parent);
	if (!n->parent)
		return refuse_id(call, "parent", "IOASID", q->parent);
	if (n->kind == SHIM_KIND_KERNEL && n->parent->kind != SHIM_KIND_KERNEL)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "parent",
				    "kind kernel nests on kind kernel, not on %s",
				    vocab_kind_name((Ioasid__V1__IoasidKind)n->parent->kind));
	if (n->parent->kind == SHIM_KIND_PROCESS)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "parent",
				    "nothing nests on a process's address space");
	if (n->parent->depth == UINT8_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "parent", "nested too deeply");
	n->depth = n->parent->depth + 1;
	r = check_ceiling(call, QUOTA_NESTING_DEPTH, n->parent->depth);
	if (!r)
		r = check_ceiling(call, QUOTA_CHILDREN_PER_PARENT, n->parent->n_children);
	return r;
}

/* What every named device must have, whatever the format. */
static int check_features(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
			  struct negotiation *n)
{
	bool all_snoop = n->n_suited > 0;

	for (size_t i = 0; i < n->n_suited; i++) {
		const struct shim_device_info *info = n->suited[i]->info;
		const char *lacks = NULL;

		if (q->faults && !info->caps.recoverable_faults)
			lacks = "recoverable faults";
		else if (q->pasid && !info->caps.pasid_bits)
			lacks = "PASIDs";
		else if (q->dirty_tracking && !info->caps.dirty_tracking)
			lacks = "dirty tracking";
		else if (q->snoop == IOASID__V1__SNOOP_MODE__SNOOP_MODE_ENFORCE &&
			 !info->caps.snoop_control)
			lacks = "snoop control";
		all_snoop = all_snoop && info->caps.snoop_control;
		if (!lacks)
			continue;
		/* Without named devices it is enough that some device has it. */
		if (!n->n_devices && n->n_suited > 1) {
			n->suited[i--] = n->suited[--n->n_suited];
			continue;
		}
		return refuse_precondition(call, OUTCOME_INCOMPATIBLE, info->address,
					   "its IOMMU %s has no %s", info->iommu, lacks);
	}
	n->choice.enforce_snoop =
		q->snoop == IOASID__V1__SNOOP_MODE__SNOOP_MODE_ENFORCE ||
		(q->snoop == IOASID__V1__SNOOP_MODE__SNOOP_MODE_AUTO && n->n_devices && all_snoop);
	if (q->input_bits > 64)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "input_bits", "at most 64");
	return OUTCOME_OK;
}

/* ---- candidates ---- */

struct verdict {
	Ioasid__V1__RefusedBy by; /* UNSPECIFIED: fits */
	const char *who;
	const char *reason;
};

static bool pass_over(struct broker_call *call, struct negotiation *n, enum shim_format format,
		      const struct verdict *v)
{
	Ioasid__V1__Refusal *refusal = scratch_alloc(&call->scratch, sizeof(*refusal));

	if (!refusal || !v->reason)
		return false;
	ioasid__v1__refusal__init(refusal);
	refusal->format = (Ioasid__V1__PageTableFormat)format;
	refusal->by = v->by;
	refusal->who = (char *)v->who;
	refusal->reason = (char *)v->reason;
	n->passed_over[n->n_passed_over++] = refusal;
	return true;
}

/* One device and one format; tightens the choice if it fits. */
static struct verdict try_device(struct broker_call *call, const struct negotiation *n,
				 const struct device *d, enum shim_format format,
				 struct choice *choice)
{
	struct scratch *a = &call->scratch;
	const struct shim_format_cap *cap = device_format(d, format);
	struct verdict v = {
		.by = IOASID__V1__REFUSED_BY__REFUSED_BY_DEVICE,
		.who = d->info->address,
	};

	if (!cap) {
		v.reason =
			scratch_printf(a, "its IOMMU %s does not have this format", d->info->iommu);
		return v;
	}
	if (n->kind != SHIM_KIND_USER && cap->nest_child && !cap->nest_parent) {
		v.reason = scratch_printf(
			a, "its IOMMU %s has this format only for tables that a tenant writes",
			d->info->iommu);
		return v;
	}
	if (n->parent && !cap->nest_child) {
		v.reason =
			scratch_printf(a, "its IOMMU %s cannot nest this format", d->info->iommu);
		return v;
	}
	if (n->parent && cap->nest_on && !(cap->nest_on & 1u << n->parent->choice.format)) {
		v.reason =
			scratch_printf(a, "format %s does not nest on the parent's, %s",
				       format_name(format), format_name(n->parent->choice.format));
		return v;
	}
	v.reason = device_nesting_obstacle(a, d, n->parent, n->depth);
	if (v.reason)
		return v;
	if (!(choice->page_sizes & cap->page_sizes)) {
		v.reason = "no page size in common with the other devices";
		return v;
	}
	choice->page_sizes &= cap->page_sizes;
	choice->execute = choice->execute && cap->execute;
	if (cap->input_bits < choice->input_bits)
		choice->input_bits = cap->input_bits;
	if (cap->output_bits < choice->output_bits)
		choice->output_bits = cap->output_bits;
	return (struct verdict){0};
}

static bool is_between(enum shim_format format, enum shim_format first, enum shim_format last)
{
	return format >= first && format <= last;
}

/*
 * x86-64 and ARM's stage 1 have no bit that takes reading away from a page, RISC-V has the
 * encoding reserved, and what a kernel chooses may be one of them.
 */
static bool allows_write_only(enum shim_format format)
{
	return !is_between(format, SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_X86_64_5L) &&
	       !is_between(format, SHIM_FORMAT_ARMV8_S1_4K, SHIM_FORMAT_ARMV8_S1_64K) &&
	       !is_between(format, SHIM_FORMAT_SV39, SHIM_FORMAT_SV57X4) &&
	       format != SHIM_FORMAT_KERNEL_CHOSEN;
}

static bool extends_sign(enum shim_format format)
{
	return is_between(format, SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_X86_64_5L) ||
	       is_between(format, SHIM_FORMAT_SV39, SHIM_FORMAT_SV57);
}

static bool is_ept(enum shim_format format)
{
	return format == SHIM_FORMAT_EPT_4L || format == SHIM_FORMAT_EPT_5L;
}

static struct verdict try_format(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
				 struct negotiation *n, enum shim_format format)
{
	struct choice choice = n->choice;
	struct policy_verdict policy;
	struct verdict v = {0};
	size_t fitting = 0;

	if (is_ept(format) != (n->kind == SHIM_KIND_KVM))
		return (struct verdict){
			IOASID__V1__REFUSED_BY__REFUSED_BY_REQUEST,
			"kind",
			is_ept(format) ? "EPT is the format of a VM's own table (kind kvm)"
				       : "a VM's table has format EPT",
		};
	policy_format_verdict(call->tenant->policy, format, &policy);
	if (!policy.allowed)
		return (struct verdict){
			IOASID__V1__REFUSED_BY__REFUSED_BY_POLICY,
			policy.tenant[0] ? policy.tenant : "host",
			policy.rule,
		};
	choice.format = format;
	choice.kernel_chosen = format == SHIM_FORMAT_KERNEL_CHOSEN;
	choice.input_bits = choice.output_bits = 64;
	choice.page_sizes = UINT64_MAX;
	choice.execute = true;
	choice.write_only = allows_write_only(format);
	for (size_t i = 0; i < n->n_suited; i++) {
		struct choice tightened = choice;

		v = try_device(call, n, n->suited[i], format, &tightened);
		if (!v.by) {
			choice = tightened;
			fitting++;
		} else if (n->n_devices) {
			return v;
		}
	}
	if (!fitting)
		return (struct verdict){
			IOASID__V1__REFUSED_BY__REFUSED_BY_SHIM,
			call->broker->shim->ops->name,
			"no device that this tenant may have can use it",
		};
	if (q->input_bits > choice.input_bits)
		return (struct verdict){
			IOASID__V1__REFUSED_BY__REFUSED_BY_REQUEST,
			"input_bits",
			scratch_printf(&call->scratch, "%u bits are asked for, it has %u",
				       q->input_bits, choice.input_bits),
		};
	n->choice = choice;
	return (struct verdict){0};
}

/* The highest IOVA: half of the width where the format extends the sign bit. */
static uint64_t last_iova(const struct choice *choice)
{
	unsigned bits = choice->input_bits - extends_sign(choice->format);

	return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/*
 * Without candidates: every format that some device has, in the order in which the shim
 * lists them for the first device that has it.
 */
static size_t order_of_preference(const struct negotiation *n,
				  enum shim_format order[static SHIM_FORMATS_MAX])
{
	uint64_t seen = 0;
	size_t n_order = 0;

	_Static_assert(_SHIM_FORMAT_MAX <= SHIM_FORMATS_MAX, "one slot a format");
	for (size_t i = 0; i < n->n_suited; i++) {
		const struct shim_caps *caps = &n->suited[i]->info->caps;

		for (size_t k = 0; k < caps->n_formats; k++) {
			enum shim_format format = caps->formats[k].format;

			if (!(seen & UINT64_C(1) << format))
				order[n_order++] = format;
			seen |= UINT64_C(1) << format;
		}
	}
	return n_order;
}

/* All addresses but the reserved ones; whatever is there is for the process to say. */
static int choose_process(struct broker_call *call, struct negotiation *n)
{
	n->choice.format = SHIM_FORMAT_NONE;
	n->choice.input_bits = 64;
	n->choice.page_sizes = UINT64_C(1) << 12;
	/* The CPU's own accesses. */
	n->choice.enforce_snoop = false;
	if (iova_ranges_make(call->broker, UINT64_MAX, n->suited, n->n_suited, &n->choice.valid))
		return refuse_no_memory(call);
	return OUTCOME_OK;
}

static int choose(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
		  struct negotiation *n)
{
	enum shim_format order[SHIM_FORMATS_MAX];
	size_t n_order = q->n_candidates;
	/* A table says its format by itself. */
	Ioasid__V1__PageTableFormat written = q->table ? q->table->format : 0;
	size_t n_ranged = 0;
	struct device **ranged;

	if (n_order > NEGOTIATE_CANDIDATES_MAX)
		return refuse_field(call, OUTCOME_MALFORMED, "candidates", "at most %d, found %zu",
				    NEGOTIATE_CANDIDATES_MAX, n_order);
	for (size_t i = 0; i < n_order; i++) {
		order[i] = (enum shim_format)q->candidates[i]->format;
		if (order[i] == SHIM_FORMAT_NONE)
			return refuse_field(call, OUTCOME_INVALID_FIELD, "candidates",
					    "candidate %zu names no format", i);
		for (size_t k = 0; k < i; k++)
			if (order[k] == order[i])
				return refuse_field(call, OUTCOME_INVALID_FIELD, "candidates",
						    "%s is named twice", format_name(order[i]));
	}
	if (!n_order && written)
		order[n_order++] = (enum shim_format)written;
	if (!n_order)
		n_order = order_of_preference(n, order);
	n->passed_over = scratch_calloc(&call->scratch, n_order, sizeof(*n->passed_over));
	ranged = scratch_calloc(&call->scratch, n->n_suited, sizeof(*ranged));
	if (!n->passed_over || !ranged)
		return refuse_no_memory(call);
	for (size_t i = 0; i < n_order; i++) {
		struct verdict v = try_format(call, q, n, order[i]);

		if (v.by) {
			if (!pass_over(call, n, order[i], &v))
				return refuse_no_memory(call);
			continue;
		}
		for (size_t k = 0; k < n->n_suited; k++)
			if (device_format(n->suited[k], order[i]))
				ranged[n_ranged++] = n->suited[k];
		if (iova_ranges_make(call->broker, last_iova(&n->choice), ranged, n_ranged,
				     &n->choice.valid))
			return refuse_no_memory(call);
		return OUTCOME_OK;
	}
	for (size_t i = 0; i < n->n_passed_over; i++) {
		const Ioasid__V1__Refusal *refusal = n->passed_over[i];

		outcome_add_violation(&call->outcome, &call->scratch,
				      vocab_format_name(refusal->format), "%s %s: %s",
				      vocab_refused_by_name(refusal->by), refusal->who,
				      refusal->reason);
	}
	if (!n->n_passed_over)
		outcome_add_violation(&call->outcome, &call->scratch, "candidates",
				      "no device that this tenant may have offers any format");
	return refuse(call, OUTCOME_FORMAT_UNSUPPORTED, "no candidate fits: %s: %s",
		      call->outcome.violations[0].subject, call->outcome.violations[0].description);
}

int negotiate(struct broker_call *call, const Ioasid__V1__AllocRequest *q,
	      struct negotiation *ret_negotiation)
{
	struct negotiation *n = ret_negotiation;
	int r;

	memset(n, 0, sizeof(*n));
	r = check_devices(call, q, n);
	if (!r)
		r = check_kind(call, q, n);
	if (!r)
		r = check_vm(call, q, n);
	if (!r)
		r = check_process(call, q, n);
	if (!r)
		r = check_parent(call, q, n);
	if (!r)
		r = check_features(call, q, n);
	if (!r && strlen(q->label) > LABEL_MAX)
		r = refuse_field(call, OUTCOME_INVALID_FIELD, "label", "at most %d bytes",
				 LABEL_MAX);
	if (!r)
		r = n->kind == SHIM_KIND_PROCESS ? choose_process(call, n) : choose(call, q, n);
	return r;
}

int negotiate_kind(struct broker_call *call, enum shim_kind kind)
{
	Ioasid__V1__AllocRequest q = IOASID__V1__ALLOC_REQUEST__INIT;
	struct negotiation *n = scratch_calloc(&call->scratch, 1, sizeof(*n));
	int r;

	if (!n)
		return refuse_no_memory(call);
	q.kind = (Ioasid__V1__IoasidKind)kind;
	r = check_devices(call, &q, n);
	return r ?: check_kind(call, &q, n);
}

Ioasid__V1__Choice *choice_describe(struct scratch *scratch, const struct choice *choice)
{
	Ioasid__V1__Choice *d = scratch_alloc(scratch, sizeof(*d));
	Ioasid__V1__AddressRange *ranges;

	if (!d)
		return NULL;
	ioasid__v1__choice__init(d);
	d->format = (Ioasid__V1__PageTableFormat)choice->format;
	d->kernel_chosen = choice->kernel_chosen;
	d->input_bits = choice->input_bits;
	d->output_bits = choice->output_bits;
	d->page_sizes = choice->page_sizes;
	d->enforce_snoop = choice->enforce_snoop;
	d->valid = scratch_calloc(scratch, choice->valid->n, sizeof(*d->valid));
	ranges = scratch_calloc(scratch, choice->valid->n, sizeof(*ranges));
	if (!d->valid || !ranges)
		return NULL;
	for (size_t i = 0; i < choice->valid->n; i++) {
		ioasid__v1__address_range__init(&ranges[i]);
		ranges[i].start = choice->valid->ranges[i].start;
		ranges[i].last = choice->valid->ranges[i].last;
		d->valid[i] = &ranges[i];
	}
	d->n_valid = choice->valid->n;
	return d;
}
