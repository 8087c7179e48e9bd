/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's objects as members of documents, by the conventions of doc.h.  A number
 * that this version has no name for (a newer broker's) is shown as "unknown-N".
 */
#include "objects.h"
#include "cli.h"

#include <inttypes.h>

static void put_name(struct json_object *to, const char *key, const char *name, unsigned number)
{
	_cleanup_free_ char *unknown = name ? NULL : cli_printf("unknown-%u", number);

	doc_put_text(to, key, name ?: unknown);
}

/* Bit n of a mask of page sizes: 2^n. */
static struct json_object *page_sizes(uint64_t mask)
{
	struct json_object *list = doc_array();

	for (unsigned bit = 0; bit < 64; bit++)
		if (mask & UINT64_C(1) << bit)
			doc_put_u64(list, NULL, UINT64_C(1) << bit);
	return list;
}

static void put_access(struct json_object *o, uint32_t flags)
{
	doc_put_bool(o, "read", flags & IOASID_READ);
	doc_put_bool(o, "write", flags & IOASID_WRITE);
	doc_put_bool(o, "execute", flags & IOASID_EXECUTE);
}

static struct json_object *ranges(const struct ioasid_address_range *const *items, size_t n)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = doc_object();

		doc_put_hex(o, "start", items[i]->start);
		doc_put_hex(o, "last", items[i]->last);
		doc_put_text_if(o, "use", items[i]->use);
		doc_put(list, NULL, o);
	}
	return list;
}

struct json_object *object_texts(const char *const *texts, size_t n)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n; i++)
		doc_put_text(list, NULL, texts[i]);
	return list;
}

static struct json_object *capabilities(const struct ioasid_device_capabilities *c)
{
	struct json_object *o = doc_object(), *list = doc_array();

	for (size_t i = 0; i < c->n_formats; i++) {
		const struct ioasid_format_capability *f = c->formats[i];
		struct json_object *one = doc_object();

		put_name(one, "format", ioasid_format_name(f->format), f->format);
		doc_put_u64(one, "input_bits", f->input_bits);
		doc_put_u64(one, "output_bits", f->output_bits);
		doc_put(one, "page_sizes", page_sizes(f->page_sizes));
		doc_put_bool(one, "access_dirty", f->access_dirty);
		doc_put_bool(one, "execute", f->execute);
		doc_put_bool(one, "nest_child", f->nest_child);
		doc_put_bool(one, "nest_parent", f->nest_parent);
		doc_put_bool(one, "tenant_only", f->tenant_only);
		if (f->nest_child)
			doc_put_u64(one, "table_bits_least", f->table_bits_least);
		doc_put(list, NULL, one);
	}
	doc_put(o, "formats", list);
	list = doc_array();
	for (size_t i = 0; i < c->n_kinds; i++) {
		struct json_object *one = doc_object();

		put_name(one, "kind", ioasid_kind_name(c->kinds[i]->kind), c->kinds[i]->kind);
		doc_put_bool(one, "supported", c->kinds[i]->supported);
		doc_put_text_if(one, "reason", c->kinds[i]->reason);
		doc_put(list, NULL, one);
	}
	doc_put(o, "kinds", list);
	doc_put_u64(o, "pasid_bits", c->pasid_bits);
	doc_put_u64(o, "max_depth", c->max_depth);
	doc_put_bool(o, "recoverable_faults", c->recoverable_faults);
	doc_put_bool(o, "dirty_tracking", c->dirty_tracking);
	doc_put_bool(o, "snoop_control", c->snoop_control);
	doc_put_bool(o, "device_tlb", c->device_tlb);
	list = doc_array();
	for (size_t i = 0; i < c->n_invalidations; i++)
		doc_put_text(list, NULL, ioasid_granularity_name(c->invalidations[i]));
	doc_put(o, "invalidations", list);
	doc_put(o, "reserved", ranges(c->reserved, c->n_reserved));
	list = doc_array();
	for (size_t i = 0; i < c->n_absent; i++) {
		struct json_object *one = doc_object();

		doc_put_text(one, "feature", c->absent[i]->feature);
		doc_put_text(one, "reason", c->absent[i]->reason);
		doc_put(list, NULL, one);
	}
	doc_put(o, "absent", list);
	return o;
}

struct json_object *object_device(const struct ioasid_device *d)
{
	struct json_object *o = doc_object();

	doc_put_text(o, "device", d->address);
	put_name(o, "state", ioasid_device_state_name(d->state), d->state);
	doc_put_text(o, "vendor_device", d->vendor_device);
	doc_put_text(o, "class", d->class_code);
	doc_put_text(o, "iommu", d->iommu);
	doc_put_u64(o, "group", d->group);
	doc_put(o, "group_members", object_texts(d->group_members, d->n_group_members));
	if (d->hidden_members)
		doc_put_u64(o, "hidden_members", d->hidden_members);
	if (d->numa_node >= 0)
		doc_put_i64(o, "numa_node", d->numa_node);
	else
		doc_put(o, "numa_node", NULL);
	doc_put_text_if(o, "driver", d->driver);
	doc_put_text_if(o, "lease", d->lease);
	doc_put_text_if(o, "tenant", d->tenant);
	if (d->capabilities)
		doc_put(o, "capabilities", capabilities(d->capabilities));
	return o;
}

struct json_object *object_memory(const struct ioasid_memory *m)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "memory", m->id);
	doc_put_u64(o, "length", m->length);
	doc_put_u64(o, "page_size", m->page_size);
	put_access(o, m->flags & ~IOASID_EXECUTE);
	doc_put_u64(o, "mappings", m->mappings);
	doc_put_text_if(o, "label", m->label);
	return o;
}

struct json_object *object_vm(const struct ioasid_vm *v)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "vm", v->id);
	doc_put_u64(o, "slots", v->slots);
	doc_put_u64(o, "slot_bytes", v->slot_bytes);
	doc_put_u64(o, "ioasids", v->ioasids);
	doc_put_text_if(o, "label", v->label);
	return o;
}

struct json_object *object_choice(const struct ioasid_choice *c)
{
	struct json_object *o = doc_object(), *list = doc_array();

	put_name(o, "format", ioasid_format_name(c->format), c->format);
	doc_put_bool(o, "kernel_chosen", c->kernel_chosen);
	doc_put_u64(o, "input_bits", c->input_bits);
	doc_put_u64(o, "output_bits", c->output_bits);
	doc_put(o, "page_sizes", page_sizes(c->page_sizes));
	doc_put_bool(o, "enforce_snoop", c->enforce_snoop);
	doc_put(o, "valid", ranges(c->valid, c->n_valid));
	for (size_t i = 0; i < c->n_passed_over; i++) {
		const struct ioasid_refusal *p = c->passed_over[i];
		struct json_object *one = doc_object();

		put_name(one, "format", ioasid_format_name(p->format), p->format);
		put_name(one, "by", ioasid_refused_by_name(p->by), p->by);
		doc_put_text(one, "who", p->who);
		doc_put_text(one, "reason", p->reason);
		doc_put(list, NULL, one);
	}
	doc_put(o, "passed_over", list);
	return o;
}

struct json_object *object_ioasid(const struct ioasid_info *i)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "ioasid", i->id);
	put_name(o, "kind", ioasid_kind_name(i->kind), i->kind);
	if (i->choice)
		doc_put(o, "choice", object_choice(i->choice));
	if (i->parent)
		doc_put_u64(o, "parent", i->parent);
	else
		doc_put(o, "parent", NULL);
	if (i->vm)
		doc_put_u64(o, "vm", i->vm);
	doc_put_u64(o, "depth", i->depth);
	doc_put(o, "devices", object_texts(i->devices, i->n_devices));
	doc_put_u64(o, "mappings", i->mappings);
	doc_put_u64(o, "mapped_bytes", i->mapped_bytes);
	doc_put_u64(o, "attachments", i->attachments);
	doc_put_u64(o, "children", i->children);
	doc_put_bool(o, "dirty_tracking", i->dirty_tracking);
	if (i->dirty_tracking)
		doc_put_bool(o, "tracking", i->tracking);
	doc_put_text_if(o, "label", i->label);
	if (i->table) {
		struct json_object *t = doc_object();

		doc_put_hex(t, "root", i->table->root);
		put_name(t, "format", ioasid_format_name(i->table->format), i->table->format);
		doc_put(o, "table", t);
	}
	if (i->pasid_table) {
		struct json_object *t = doc_object();

		doc_put_hex(t, "root", i->pasid_table->root);
		doc_put_u64(t, "format", i->pasid_table->format);
		doc_put_u64(t, "pasid_bits", i->pasid_table->pasid_bits);
		doc_put_u64(t, "shape", i->pasid_table->shape);
		doc_put(o, "pasid_table", t);
	}
	return o;
}

struct json_object *object_mapping(const struct ioasid_mapping *m)
{
	struct json_object *o = doc_object();

	doc_put_hex(o, "iova", m->iova);
	doc_put_u64(o, "length", m->length);
	put_access(o, m->flags);
	if (m->flags & IOASID_MAP_FROM_PARENT) {
		doc_put_hex(o, "parent_address", m->parent_address);
	} else {
		doc_put_u64(o, "memory", m->memory);
		doc_put_u64(o, "offset", m->offset);
	}
	return o;
}

struct json_object *object_attachment(const struct ioasid_attachment *a)
{
	struct json_object *o = doc_object();

	doc_put_text(o, "device", a->device);
	if (a->pasid != IOASID_NO_PASID)
		doc_put_u64(o, "pasid", a->pasid);
	else
		doc_put(o, "pasid", NULL);
	doc_put_u64(o, "ioasid", a->ioasid);
	return o;
}

char *fault_text(const struct ioasid_fault *f)
{
	const char *cause = ioasid_fault_cause_name(f->cause) ?: "unknown";
	const char *access = ioasid_access_name(f->access) ?: "access";

	if (!f->stage)
		return cli_printf("%s: %s of address 0x%" PRIx64, cause, access, f->address);
	if (!f->level)
		return cli_printf("%s: %s of address 0x%" PRIx64 " at stage %u", cause, access,
				  f->address, f->stage);
	return cli_printf("%s: %s of address 0x%" PRIx64 " at stage %u, level %u, entry 0x%" PRIx64,
			  cause, access, f->address, f->stage, f->level, f->entry);
}

struct json_object *object_fault(const struct ioasid_fault *f)
{
	struct json_object *o = doc_object();
	_cleanup_free_ char *text = fault_text(f);

	put_name(o, "cause", ioasid_fault_cause_name(f->cause), f->cause);
	put_name(o, "access", ioasid_access_name(f->access), f->access);
	doc_put_u64(o, "stage", f->stage);
	doc_put_u64(o, "level", f->level);
	doc_put_hex(o, "address", f->address);
	doc_put_hex(o, "entry", f->entry);
	doc_put_text(o, "text", text);
	return o;
}

struct json_object *object_walk_level(const struct ioasid_walk_level *l)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "stage", l->stage);
	doc_put_u64(o, "level", l->level);
	doc_put_hex(o, "input", l->input);
	doc_put_hex(o, "table", l->table);
	doc_put_u64(o, "index", l->index);
	doc_put_hex(o, "entry", l->entry);
	doc_put_text(o, "decoded", l->decoded);
	return o;
}

struct json_object *object_lease(const struct ioasid_lease *l)
{
	struct json_object *o = doc_object();

	doc_put_text(o, "lease", l->name);
	doc_put_text(o, "tenant", l->tenant);
	doc_put_bool(o, "mine", l->mine);
	doc_put_bool(o, "held", l->held);
	doc_put_bool(o, "closing", l->closing);
	doc_put_u64(o, "linger_seconds", l->linger_seconds);
	doc_put_u64(o, "devices", l->devices);
	doc_put_u64(o, "memories", l->memories);
	doc_put_u64(o, "ioasids", l->ioasids);
	doc_put_u64(o, "attachments", l->attachments);
	doc_put_bool(o, "awaited", l->awaited);
	doc_put_bool(o, "keep", l->keep);
	doc_put_bool(o, "handover", l->handover);
	doc_put_bool(o, "delegate", l->delegate);
	doc_put_limit(o, "max_ioasids", l->max_ioasids);
	doc_put_limit(o, "max_registered_bytes", l->max_registered_bytes);
	if (l->serial) {
		doc_put_u64(o, "serial", l->serial);
		doc_put_u64(o, "uid", l->uid);
		doc_put_u64(o, "pid", l->pid);
	}
	return o;
}

struct json_object *object_usage(const struct ioasid_resource_usage *u)
{
	struct json_object *o = doc_object();

	doc_put_text(o, "resource", u->resource);
	doc_put_limit(o, "limit", u->limit);
	doc_put_u64(o, "reserved", u->reserved);
	doc_put_u64(o, "used", u->used);
	doc_put_u64(o, "own", u->own);
	doc_put_u64(o, "peak", u->peak);
	doc_put_u64(o, "refused_local", u->refused_local);
	doc_put_u64(o, "refused", u->refused);
	return o;
}

struct json_object *object_tenant(const struct ioasid_tenant *t)
{
	struct json_object *o = doc_object(), *list = doc_array();

	doc_put_text(o, "tenant", t->path);
	doc_put_text(o, "name", *t->path ? t->path : "(host)");
	doc_put_text(o, "parent", *t->path ? t->parent : NULL);
	doc_put_bool(o, "draining", t->draining);
	doc_put_bool(o, "orphaned", t->orphaned);
	for (size_t i = 0; i < t->n_resources; i++)
		doc_put(list, NULL, object_usage(t->resources[i]));
	doc_put(o, "resources", list);
	return o;
}

void object_event(struct json_object *o, const struct ioasid_event *e)
{
	doc_put_u64(o, "sequence", e->sequence);
	doc_put_u64(o, "lost", e->lost);
	doc_put_u64(o, "time_us", e->time_us);
	put_name(o, "event", ioasid_event_name(e->type), e->type);
	doc_put_text(o, "tenant", e->tenant);
	doc_put_text_if(o, "lease", e->lease);
	if (e->ioasid)
		doc_put_u64(o, "ioasid", e->ioasid);
	doc_put_text_if(o, "device", e->device);
	doc_put_text_if(o, "text", e->text);
}
