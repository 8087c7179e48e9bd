/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See explain.h.  Builds the lines in an arena of the explanation; the first allocation
 * that fails is remembered and ends it with -ENOMEM.
 *
 * Whether something is allowed is asked of policy.c and policy_needs(); the walk over the
 * chain here only finds the words for it.
 */

#include "explain.h"
#include "policy_internal.h"
#include "problem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct explain {
	struct policy_explanation public; /* first: what the caller holds */
	struct arena arena;
	const struct policy *policy;
	size_t n_allocated;
	bool no_memory;
};

const char *policy_mark_name(enum policy_mark mark)
{
	switch (mark) {
	case POLICY_MARK_NOTE:
		return "note";
	case POLICY_MARK_ALLOWS:
		return "allows";
	case POLICY_MARK_DENIES:
		return "denies";
	}
	return NULL;
}

/* "the host" or the path in quotes, into a buffer of the caller. */
#define NODE_NAME_MAX (POLICY_PATH_MAX + 3)

static const char *node_name(const struct policy_tenant *tenant, char name[static NODE_NAME_MAX])
{
	if (!*tenant->path)
		return "the host";
	snprintf(name, NODE_NAME_MAX, "\"%s\"", tenant->path);
	return name;
}

/* Words of the question are the caller's: clean them before they go into a line. */
static const char *clean(struct explain *e, const char *s)
{
	char text[256];
	char *copy;

	problem_copy(text, sizeof(text), s);
	copy = arena_strndup(&e->arena, text, strlen(text));
	e->no_memory |= !copy;
	return copy ? copy : "";
}

__attribute__((format(printf, 6, 7))) static void line_add(struct explain *e, enum policy_mark mark,
							   const char *topic,
							   const struct policy_tenant *tenant,
							   const char *rule, const char *fmt, ...)
{
	struct policy_explanation_line line = {
		.mark = mark,
		.topic = topic,
		.tenant = tenant ? tenant->path : NULL,
		.rule = rule,
	};
	char text[1024];
	va_list ap;

	if (mark == POLICY_MARK_DENIES)
		e->public.allowed = false;
	if (e->public.n_lines == e->n_allocated) {
		size_t room = e->n_allocated ? 2 * e->n_allocated : 16;
		struct policy_explanation_line *lines =
			reallocarray(e->public.lines, room, sizeof(*lines));

		if (!lines) {
			e->no_memory = true;
			return;
		}
		e->public.lines = lines;
		e->n_allocated = room;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	line.text = arena_strndup(&e->arena, text, strlen(text));
	if (!line.text) {
		e->no_memory = true;
		return;
	}
	e->public.lines[e->public.n_lines++] = line;
}

/* "20-acme.json:7: tenants.acme.limits.vms"; NULL where nothing was written. */
static const char *amount_origin(struct explain *e, const struct policy_tenant *tenant,
				 const char *section, const struct policy_amount *amount)
{
	const char *origin;
	char path[512];

	if (!amount)
		return NULL;
	policy_tenant_where(tenant, section, quota_resource_name(amount->resource), path,
			    sizeof(path));
	origin = arena_printf(&e->arena, "%s:%u: %s", e->policy->files[amount->place.file].base,
			      amount->place.line, path);
	e->no_memory |= !origin;
	return origin;
}

static const char *device_rule_origin(struct explain *e, const struct policy_tenant *tenant,
				      size_t index)
{
	struct policy_place place = tenant->devices.rules[index].place;
	const char *origin;
	char path[512];

	policy_tenant_where(tenant, "devices", NULL, path, sizeof(path));
	problem_path_add_index(path, sizeof(path), index);
	origin = arena_printf(&e->arena, "%s:%u: %s", e->policy->files[place.file].base, place.line,
			      path);
	e->no_memory |= !origin;
	return origin;
}

/* ---- identity ---- */

/* Whom the rest of the question is about; NULL: nobody. */
static const struct policy_tenant *explain_identity(struct explain *e,
						    const struct policy_question *question)
{
	const struct policy_tenant *tenant = NULL;
	struct policy_identity identity;
	const char *asked = question->tenant;

	if (asked) {
		tenant = policy_tenant_find(e->policy, asked);
		if (!tenant)
			line_add(e, POLICY_MARK_DENIES, "identity", NULL, NULL,
				 "no tenant \"%s\" is defined", clean(e, asked));
	}
	if (!question->caller)
		return tenant;
	if (policy_identify(e->policy, question->caller, &identity)) {
		line_add(e, POLICY_MARK_DENIES, "identity", NULL, NULL,
			 "no identity is for socket \"%s\", uid %u, gid %u",
			 clean(e, question->caller->socket), question->caller->uid,
			 question->caller->gid);
		return tenant;
	}
	e->public.role = identity.role;
	line_add(e, POLICY_MARK_ALLOWS, "identity", NULL, identity.rule,
		 "socket \"%s\", uid %u, gid %u is %s of %s%s%s", question->caller->socket,
		 question->caller->uid, question->caller->gid, policy_role_name(identity.role),
		 *identity.tenant ? "\"" : "", *identity.tenant ? identity.tenant : "the host",
		 *identity.tenant ? "\"" : "");
	switch (identity.role) {
	case POLICY_ROLE_TENANT:
		if (asked && strcmp(asked, identity.tenant))
			line_add(e, POLICY_MARK_DENIES, "identity", NULL, identity.rule,
				 "this caller is \"%s\" and nobody else", identity.tenant);
		return asked ? tenant : policy_tenant_find(e->policy, identity.tenant);
	case POLICY_ROLE_AGENT:
		if (!asked)
			line_add(e, POLICY_MARK_DENIES, "identity", NULL, NULL,
				 "an agent names the tenant that it acts for; none was given");
		else if (!policy_path_in_subtree(asked, identity.tenant))
			line_add(e, POLICY_MARK_DENIES, "identity", NULL, identity.rule,
				 "\"%s\" is not in this agent's subtree \"%s\"", clean(e, asked),
				 identity.tenant);
		return tenant;
	default:
		if (question->device || question->format || question->kind || question->delegate ||
		    question->amount)
			line_add(e, POLICY_MARK_DENIES, "identity", NULL, identity.rule,
				 "role \"%s\" holds no objects of its own",
				 policy_role_name(identity.role));
		return tenant;
	}
}

/* ---- devices ---- */

static void explain_device(struct explain *e, const struct policy_tenant *tenant,
			   const struct policy_device *device)
{
	const char *address = device->address ? clean(e, device->address) : "without an address";
	char name[NODE_NAME_MAX], rule_text[96];
	struct policy_verdict verdict;
	bool denied = false;

	policy_device_verdict(tenant, device, &verdict);
	for (const struct policy_tenant *up = tenant; up; up = up->parent) {
		const struct policy_devices *devices = &up->devices;
		size_t i;

		if (!devices->origin) {
			line_add(e, POLICY_MARK_NOTE, "device", up, NULL, "%s lists no devices: %s",
				 node_name(up, name),
				 up->parent ? "what is above decides" : "it sets no bound");
			continue;
		}
		for (i = 0; i < devices->n_rules; i++)
			if (policy_rule_matches(&devices->rules[i], device))
				break;
		if (i == devices->n_rules) {
			line_add(e, POLICY_MARK_DENIES, "device", up, devices->origin,
				 "none of the %zu rules of %s matches device %s", devices->n_rules,
				 node_name(up, name), address);
			denied = true;
			continue;
		}
		policy_rule_format(&devices->rules[i], rule_text, sizeof(rule_text));
		line_add(e, POLICY_MARK_ALLOWS, "device", up, device_rule_origin(e, up, i),
			 "%s allows device %s by %s", node_name(up, name), address, rule_text);
	}
	/* The one reason that no list of the chain tells. */
	if (!verdict.allowed && !denied)
		line_add(e, POLICY_MARK_DENIES, "device", NULL, verdict.rule,
			 "no tenant of the chain lists any device");
	if (device->address && !policy_host_device_allowed(e->policy, device->address))
		line_add(e, POLICY_MARK_NOTE, "device", &e->policy->tenants[0], NULL,
			 "while the host itself uses device %s it cannot be claimed: it is not in "
			 "\"allow_host_devices\"",
			 address);
}

/* ---- formats and kinds ---- */

static void explain_word(struct explain *e, const struct policy_tenant *tenant, const char *topic,
			 const char *word, const char *const *words, size_t n_words)
{
	char name[NODE_NAME_MAX];
	size_t index;

	for (index = 0; index < n_words && index < 64; index++)
		if (words[index] && !strcmp(words[index], word))
			break;
	if (index == n_words || index == 64) {
		line_add(e, POLICY_MARK_DENIES, topic, NULL, NULL, "there is no %s \"%s\"", topic,
			 clean(e, word));
		return;
	}
	for (const struct policy_tenant *up = tenant; up; up = up->parent) {
		bool is_format = !strcmp(topic, "format");
		const struct policy_words *list = is_format ? &up->formats : &up->kinds;
		bool has = list->mask & UINT64_C(1) << index;

		if (!list->origin)
			line_add(e, POLICY_MARK_NOTE, topic, up, NULL, "%s lists no %ss: %s",
				 node_name(up, name), topic,
				 up->parent ? "what is above decides" : "it sets no bound");
		else
			line_add(e, has ? POLICY_MARK_ALLOWS : POLICY_MARK_DENIES, topic, up,
				 list->origin, "%s %s \"%s\"", node_name(up, name),
				 has ? "allows" : "does not list", word);
	}
}

/* ---- delegate ---- */

static void explain_delegate(struct explain *e, const struct policy_tenant *tenant)
{
	struct policy_verdict verdict;
	char name[NODE_NAME_MAX];
	bool denied = false;

	policy_delegate_verdict(tenant, &verdict);
	for (const struct policy_tenant *up = tenant; up; up = up->parent) {
		enum policy_mark mark = up->delegate ? POLICY_MARK_ALLOWS : POLICY_MARK_DENIES;

		if (!up->delegate_origin) {
			line_add(e, POLICY_MARK_NOTE, "delegate", up, NULL,
				 "%s says nothing of delegate: %s", node_name(up, name),
				 up->parent ? "what is above decides" : "it sets no bound");
			continue;
		}
		denied |= !up->delegate;
		line_add(e, mark, "delegate", up, up->delegate_origin,
			 "%s %s leases whose context is the tenant's own", node_name(up, name),
			 up->delegate ? "allows" : "forbids");
	}
	/* The one reason that no node tells. */
	if (!verdict.allowed && !denied)
		line_add(e, POLICY_MARK_DENIES, "delegate", NULL, NULL, "%s", verdict.rule);
}

/* ---- quotas ---- */

static const char *amount_text(uint64_t value, char text[static 32])
{
	if (value == QUOTA_UNLIMITED)
		snprintf(text, 32, "max");
	else
		snprintf(text, 32, "%" PRIu64, value);
	return text;
}

/* A ceiling or a rate: every node of the chain for itself. */
static void explain_bound(struct explain *e, const struct policy_tenant *tenant,
			  const struct quota_amount *amount)
{
	const char *resource = quota_resource_name(amount->resource);
	char name[NODE_NAME_MAX], limit_text[32];

	for (const struct policy_tenant *up = tenant; up; up = up->parent) {
		const struct policy_amount *limit =
			policy_tenant_amount(up->limits, up->n_limits, amount->resource);
		uint64_t value = policy_tenant_limit(up, amount->resource);
		bool fits = amount->amount <= value;

		line_add(e, fits ? POLICY_MARK_ALLOWS : POLICY_MARK_DENIES, "quota", up,
			 amount_origin(e, up, "limits", limit), "%s has %s %s%s: %" PRIu64 " %s",
			 node_name(up, name), resource, amount_text(value, limit_text),
			 limit || value == QUOTA_UNLIMITED ? "" : " (built in)", amount->amount,
			 fits ? "fits" : "is more");
	}
}

/*
 * The growth of need(n) on its way up, as quota_charge() would have it when nothing is
 * charged: need(n) is then what children have reserved.
 */
static void explain_counted(struct explain *e, const struct policy_tenant *tenant,
			    const struct quota_amount *amount)
{
	const struct policy *policy = e->policy;
	enum quota_resource r = amount->resource;
	uint64_t *needs = calloc(policy->n_tenants, sizeof(*needs)), delta = amount->amount;
	char name[NODE_NAME_MAX], limit_text[32];

	if (!needs) {
		e->no_memory = true;
		return;
	}
	policy_needs(policy, r, needs);
	for (const struct policy_tenant *up = tenant; up; up = up->parent) {
		const struct policy_amount *limit =
			policy_tenant_amount(up->limits, up->n_limits, r);
		const struct policy_amount *reservation =
			policy_tenant_amount(up->reservations, up->n_reservations, r);
		uint64_t value = policy_tenant_limit(up, r), need = needs[up - policy->tenants];
		uint64_t reserved = reservation ? reservation->value : 0, before, after, sum;
		bool fits = !__builtin_add_overflow(need, delta, &sum) && sum <= value;

		line_add(
			e, fits ? POLICY_MARK_ALLOWS : POLICY_MARK_DENIES, "quota", up,
			amount_origin(e, up, "limits", limit),
			"%s has %s %s%s, %" PRIu64 " reserved by its children: %" PRIu64 " more %s",
			node_name(up, name), quota_resource_name(r), amount_text(value, limit_text),
			limit || value == QUOTA_UNLIMITED ? "" : " (built in)", need, delta,
			fits ? "fits" : "does not fit");
		if (!fits)
			break;
		before = need > reserved ? need : reserved;
		after = sum > reserved ? sum : reserved;
		delta = after - before;
		if (reservation)
			line_add(e, POLICY_MARK_NOTE, "quota", up,
				 amount_origin(e, up, "reservations", reservation),
				 "%s has %" PRIu64 " reserved: its parent gives %" PRIu64 " more",
				 node_name(up, name), reserved, delta);
		if (!delta)
			break;
	}
	free(needs);
}

static void explain_amount(struct explain *e, const struct policy_tenant *tenant,
			   const struct quota_amount *amount)
{
	if (!quota_resource_name(amount->resource))
		line_add(e, POLICY_MARK_DENIES, "quota", NULL, NULL, "there is no such resource");
	else if (amount->resource < _QUOTA_COUNTED_MAX)
		explain_counted(e, tenant, amount);
	else
		explain_bound(e, tenant, amount);
}

int policy_explain(const struct policy *policy, const struct policy_vocabulary *vocabulary,
		   const struct policy_question *question,
		   struct policy_explanation **ret_explanation)
{
	static const struct policy_vocabulary no_words;
	const struct policy_tenant *tenant;
	struct explain *e;

	if (!question->caller && !question->tenant)
		return -EINVAL;
	if (!vocabulary)
		vocabulary = &no_words;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->policy = policy;
	e->public.allowed = true;
	e->public.tenant = "";
	tenant = explain_identity(e, question);
	if (tenant) {
		e->public.tenant = tenant->path;
		if (question->device)
			explain_device(e, tenant, question->device);
		if (question->format)
			explain_word(e, tenant, "format", question->format, vocabulary->formats,
				     vocabulary->n_formats);
		if (question->kind)
			explain_word(e, tenant, "kind", question->kind, vocabulary->kinds,
				     vocabulary->n_kinds);
		if (question->delegate)
			explain_delegate(e, tenant);
		if (question->amount)
			explain_amount(e, tenant, question->amount);
	}
	if (e->no_memory) {
		policy_explanation_free(&e->public);
		return -ENOMEM;
	}
	*ret_explanation = &e->public;
	return 0;
}

void policy_explanation_free(struct policy_explanation *explanation)
{
	struct explain *e = (struct explain *)explanation;

	if (!e)
		return;
	free(e->public.lines);
	arena_deinit(&e->arena);
	free(e);
}
