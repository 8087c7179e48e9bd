/* SPDX-License-Identifier: Apache-2.0 */
/* Devices in the API's form.  Reads only. */
#include "server/broker/device_describe.h"

#include "server/broker/device.h"
#include "server/broker/negotiate.h"

#include <string.h>

static Ioasid__V1__FormatCapability **describe_formats(struct scratch *a,
						       const struct shim_caps *caps)
{
	Ioasid__V1__FormatCapability **list = scratch_calloc(a, caps->n_formats, sizeof(*list));
	Ioasid__V1__FormatCapability *f = scratch_calloc(a, caps->n_formats, sizeof(*f));

	if (!list || !f)
		return NULL;
	for (size_t i = 0; i < caps->n_formats; i++) {
		const struct shim_format_cap *c = &caps->formats[i];

		ioasid__v1__format_capability__init(&f[i]);
		f[i].format = (Ioasid__V1__PageTableFormat)c->format;
		f[i].input_bits = c->input_bits;
		f[i].output_bits = c->output_bits;
		f[i].page_sizes = c->page_sizes;
		f[i].access_dirty = c->access_dirty;
		f[i].execute = c->execute;
		f[i].nest_child = c->nest_child;
		f[i].nest_parent = c->nest_parent;
		f[i].tenant_only = c->tenant_only;
		if (c->nest_child)
			f[i].table_bits_least = table_bits_least(c);
		list[i] = &f[i];
	}
	return list;
}

static Ioasid__V1__KindCapability **describe_kinds(struct scratch *a, const struct shim_caps *caps)
{
	size_t n = _SHIM_KIND_MAX - 1;
	Ioasid__V1__KindCapability **list = scratch_calloc(a, n, sizeof(*list));
	Ioasid__V1__KindCapability *k = scratch_calloc(a, n, sizeof(*k));

	if (!list || !k)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		ioasid__v1__kind_capability__init(&k[i]);
		k[i].kind = (Ioasid__V1__IoasidKind)(i + 1);
		k[i].supported = !caps->kind_absent[i + 1][0];
		k[i].reason = (char *)caps->kind_absent[i + 1];
		list[i] = &k[i];
	}
	return list;
}

static Ioasid__V1__AddressRange **describe_reserved(struct scratch *a, const struct shim_caps *caps)
{
	Ioasid__V1__AddressRange **list = scratch_calloc(a, caps->n_reserved, sizeof(*list));
	Ioasid__V1__AddressRange *r = scratch_calloc(a, caps->n_reserved, sizeof(*r));

	if (!list || !r)
		return NULL;
	for (size_t i = 0; i < caps->n_reserved; i++) {
		ioasid__v1__address_range__init(&r[i]);
		r[i].start = caps->reserved[i].start;
		r[i].last = caps->reserved[i].last;
		r[i].use = (char *)caps->reserved[i].use;
		list[i] = &r[i];
	}
	return list;
}

static bool describe_absent(struct scratch *a, const struct shim_caps *caps,
			    Ioasid__V1__DeviceCapabilities *c)
{
	static const char *const names[_SHIM_FEATURE_MAX] = {
		[SHIM_FEATURE_PASID] = "pasid",
		[SHIM_FEATURE_FAULTS] = "recoverable-faults",
		[SHIM_FEATURE_DIRTY] = "dirty-tracking",
		[SHIM_FEATURE_NESTING] = "nesting",
		[SHIM_FEATURE_SNOOP] = "snoop-control",
		[SHIM_FEATURE_DEVICE_FD] = "device-fd",
	};
	Ioasid__V1__FeatureAbsence *list = scratch_calloc(a, _SHIM_FEATURE_MAX, sizeof(*list));

	c->absent = scratch_calloc(a, _SHIM_FEATURE_MAX, sizeof(*c->absent));
	if (!list || !c->absent)
		return false;
	for (size_t i = 0; i < _SHIM_FEATURE_MAX; i++) {
		if (!caps->feature_absent[i][0])
			continue;
		ioasid__v1__feature_absence__init(&list[i]);
		list[i].feature = (char *)names[i];
		list[i].reason = (char *)caps->feature_absent[i];
		c->absent[c->n_absent++] = &list[i];
	}
	return true;
}

static Ioasid__V1__DeviceCapabilities *describe_capabilities(struct scratch *a,
							     const struct shim_caps *caps)
{
	Ioasid__V1__DeviceCapabilities *c = scratch_alloc(a, sizeof(*c));

	if (!c)
		return NULL;
	ioasid__v1__device_capabilities__init(c);
	c->formats = describe_formats(a, caps);
	c->kinds = describe_kinds(a, caps);
	c->reserved = describe_reserved(a, caps);
	c->invalidations = scratch_calloc(a, 32, sizeof(*c->invalidations));
	if (!c->formats || !c->kinds || !c->reserved || !c->invalidations)
		return NULL;
	c->n_formats = caps->n_formats;
	c->n_kinds = _SHIM_KIND_MAX - 1;
	c->n_reserved = caps->n_reserved;
	for (unsigned bit = 1; bit < 32; bit++)
		if (caps->invalidations & 1u << bit)
			c->invalidations[c->n_invalidations++] =
				(Ioasid__V1__InvalidateGranularity)bit;
	c->pasid_bits = caps->pasid_bits;
	c->recoverable_faults = caps->recoverable_faults;
	c->dirty_tracking = caps->dirty_tracking;
	c->snoop_control = caps->snoop_control;
	c->device_tlb = caps->device_tlb;
	c->max_depth = caps->max_depth;
	return describe_absent(a, caps, c) ? c : NULL;
}

static bool describe_companions(struct broker_call *call, const struct device *device,
				Ioasid__V1__Device *d)
{
	struct broker *broker = call->broker;
	struct policy_verdict verdict;
	size_t n = 0;

	for (size_t i = 0; i < broker->n_devices; i++)
		n += broker->devices[i].info->group == device->info->group;
	d->group_members = scratch_calloc(&call->scratch, n, sizeof(*d->group_members));
	if (!d->group_members)
		return false;
	for (size_t i = 0; i < broker->n_devices; i++) {
		const struct device *other = &broker->devices[i];

		if (other == device || other->info->group != device->info->group)
			continue;
		if (device_is_allowed(other, call->tenant, &verdict))
			d->group_members[d->n_group_members++] = (char *)other->info->address;
		else
			d->hidden_members++;
	}
	return true;
}

static void describe_state(struct broker_call *call, const struct device *device,
			   Ioasid__V1__Device *d)
{
	const struct broker_session *s = call->session;
	const struct lease *lease = device->lease;
	bool sees_all = s->role != POLICY_ROLE_TENANT;

	if (device->held) {
		struct tenant *last = device->charge.tenant;
		bool sees = sees_all && tenant_is_below(last, s->tenant);

		d->state = sees || last == call->tenant
				   ? IOASID__V1__DEVICE_STATE__DEVICE_STATE_REVOKING
				   : IOASID__V1__DEVICE_STATE__DEVICE_STATE_UNAVAILABLE;
		if (sees)
			d->tenant = last->path;
		return;
	}
	if (!lease) {
		d->state = device->info->host_use[0] ? IOASID__V1__DEVICE_STATE__DEVICE_STATE_HOST
						     : IOASID__V1__DEVICE_STATE__DEVICE_STATE_FREE;
		return;
	}
	if (lease->tenant != call->tenant &&
	    !(sees_all && tenant_is_below(lease->tenant, s->tenant))) {
		d->state = IOASID__V1__DEVICE_STATE__DEVICE_STATE_UNAVAILABLE;
		return;
	}
	d->state = device->revoking ? IOASID__V1__DEVICE_STATE__DEVICE_STATE_REVOKING
				    : IOASID__V1__DEVICE_STATE__DEVICE_STATE_CLAIMED;
	d->lease = lease->name ?: (char *)"";
	if (sees_all)
		d->tenant = lease->tenant->path;
}

Ioasid__V1__Device *device_describe(struct broker_call *call, const struct device *device,
				    bool with_capabilities)
{
	const struct shim_device_info *info = device->info;
	struct scratch *a = &call->scratch;
	Ioasid__V1__Device *d = scratch_alloc(a, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__device__init(d);
	d->address = (char *)info->address;
	d->vendor_device = scratch_printf(a, "%04x:%04x", info->vendor, info->device);
	d->class_code = scratch_printf(a, "%06x", info->class_code);
	d->iommu = (char *)info->iommu;
	d->group = info->group;
	d->numa_node = info->numa_node;
	d->driver = (char *)info->driver;
	if (!d->vendor_device || !d->class_code || !describe_companions(call, device, d))
		return NULL;
	describe_state(call, device, d);
	if (with_capabilities) {
		d->capabilities = describe_capabilities(a, &info->caps);
		if (!d->capabilities)
			return NULL;
	}
	return d;
}
