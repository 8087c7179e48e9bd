/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry dump, registry check: what a broker keeps for its next start, read without a broker
 * and without its lock, from a registry that may be in use.  Neither writes anything.
 *
 * Records become documents by their descriptors, so a field of records.proto that is added is
 * shown (in JSON) without a change here.  Of bytes only their number is shown: among them are the
 * secrets of leases.  Texts come from a file that may be damaged: what is no text is shown as '?'.
 */
#include "families.h"

#include "policy/utf8.h"
#include "registry/registry.h"

#include <string.h>

#define FOLDER "/run/ioasid/registry"

static void image_freep(struct registry_image **image)
{
	registry_image_free(*image);
}
#define _cleanup_image_ __attribute__((cleanup(image_freep)))

static int image_open(struct cli *cli, const char *folder, struct registry_image **ret_image)
{
	struct registry_problem problem = {.message = ""};
	int r = registry_load(folder, ret_image, &problem);

	if (r < 0)
		return cli_errno(cli, r, "cannot read the registry %s", folder);
	if (r)
		return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "LOCAL", "%s: %s", folder,
				problem.message);
	return CLI_OK;
}

/* ---- a record as a document ---- */

static void put_text(struct json_object *to, const char *key, const char *text)
{
	size_t n = strlen(text);
	_cleanup_free_ char *clean = cli_alloc(n + 1);

	for (size_t i = 0; i < n;) {
		const size_t length = utf8_length(text + i, n - i);

		if (!length || (unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
			clean[i++] = '?';
			continue;
		}
		memcpy(clean + i, text + i, length);
		i += length;
	}
	doc_put_text(to, key, clean);
}

/* Addresses and hashes are shown in hexadecimal. */
static bool is_hex(const char *name)
{
	static const char *const names[] = {"iova", "last",	 "valid",
					    "hash", "open_hash", "choose_hint"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static struct json_object *message_object(const ProtobufCMessage *message);

/* One value at p; key NULL: an element of an array.  What is not set is left out of an object. */
static void put_value(struct json_object *to, const char *key,
		      const ProtobufCFieldDescriptor *field, const void *p)
{
	const ProtobufCBinaryData *bytes = p;
	struct json_object *o;
	uint64_t number = 0;

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		if (!key || **(char *const *)p)
			put_text(to, key, *(char *const *)p);
		return;
	case PROTOBUF_C_TYPE_BYTES:
		if (!bytes->len)
			return;
		o = doc_object();
		doc_put_u64(o, "bytes", bytes->len);
		doc_put(to, key, o);
		return;
	case PROTOBUF_C_TYPE_MESSAGE:
		if (*(ProtobufCMessage *const *)p)
			doc_put(to, key, message_object(*(ProtobufCMessage *const *)p));
		return;
	case PROTOBUF_C_TYPE_BOOL:
		if (*(const protobuf_c_boolean *)p)
			doc_put_bool(to, key, true);
		return;
	case PROTOBUF_C_TYPE_UINT32:
		number = *(const uint32_t *)p;
		break;
	case PROTOBUF_C_TYPE_UINT64:
		number = *(const uint64_t *)p;
		break;
	default:
		return;
	}
	if (is_hex(field->name) && (!key || number || !strcmp(field->name, "iova")))
		doc_put_hex(to, key, number);
	else if (!key || number)
		doc_put_u64(to, key, number);
}

static size_t size_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_UINT32:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return sizeof(void *);
	}
}

static void put_fields(struct json_object *to, const ProtobufCMessage *message)
{
	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const char *p = (const char *)message + field->offset;
		struct json_object *list;
		size_t n;

		if (field->label != PROTOBUF_C_LABEL_REPEATED) {
			put_value(to, field->name, field, p);
			continue;
		}
		n = *(const size_t *)((const char *)message + field->quantifier_offset);
		if (!n)
			continue;
		list = doc_array();
		p = *(const char *const *)p;
		for (size_t k = 0; k < n; k++)
			put_value(list, NULL, field, p + k * size_of(field->type));
		doc_put(to, field->name, list);
	}
}

static struct json_object *message_object(const ProtobufCMessage *message)
{
	struct json_object *o = doc_object();

	put_fields(o, message);
	return o;
}

/* ---- dump ---- */

/* As text, a record is one line of these, of which it has some. */
static const struct cli_column dump_form[] = {
	{"lease", "lease"},
	{"record", ""},
	{"damage", "damage", .optional = true},
	{"generation", "generation", .optional = true},
	{"batches", "batches", .optional = true},
	{"bytes", "bytes", .optional = true},
	{"last_serial", "last_serial", .optional = true},
	{"event_sequence", "event_sequence", .optional = true},
	{"id", "id", .optional = true},
	{"path", "path", .optional = true},
	{"tenant", "tenant", .optional = true},
	{"name", "name", .optional = true},
	{"opener_socket", "socket", .optional = true},
	{"opener_uid", "uid", .optional = true},
	{"holder.pid", "holder", .optional = true},
	{"watched.pid", "watched", .optional = true},
	{"linger_seconds", "linger", .optional = true},
	{"closing", "closing", RENDER_BOOL, .optional = true},
	{"draining", "draining", RENDER_BOOL, .optional = true},
	{"limits", "limits", RENDER_COUNT, .optional = true},
	{"address", "address", .optional = true},
	{"fd_given", "fd_given", RENDER_BOOL, .optional = true},
	{"device", "device", .optional = true},
	{"pasid", "pasid+1", .optional = true},
	{"kind", "kind", .optional = true},
	{"format", "format", .optional = true},
	{"parent", "parent", .optional = true},
	{"ioasid", "ioasid", .optional = true},
	{"iova", "iova", .optional = true},
	{"memory", "memory", .optional = true},
	{"offset", "offset", .optional = true},
	{"length", "length", RENDER_SIZE, .optional = true},
	{"prot", "prot", .optional = true},
	{"freed", "freed", RENDER_BOOL, .optional = true},
	{"label", "label", .optional = true},
	{"devices", "devices", .optional = true},
	{"key", "key", .optional = true},
	{"method", "method", .optional = true},
	{"order", "order", .optional = true},
	{"lost", "lost", RENDER_BOOL, .optional = true},
	{"ranges", "ranges", RENDER_COUNT, .optional = true},
	{"next_id", "next_id", .optional = true},
	{},
};
static const struct cli_view dump_view = {.form = dump_form};

static int dump_record(struct cli *cli, uint64_t lease, const char *record,
		       const ProtobufCMessage *message)
{
	struct json_object *document = doc_new("registry-record");

	doc_put_u64(document, "lease", lease);
	doc_put_text(document, "record", record);
	put_fields(document, message);
	return cli_show_event(cli, document);
}

/* All of an array, while r is 0. */
#define DUMP(of, lease, record, array)                                                             \
	do {                                                                                       \
		for (size_t i = 0; !r && i < (of)->n_##array; i++)                                 \
			r = dump_record(cli, lease, record, &(of)->array[i]->base);                \
	} while (0)

static int dump_lease(struct cli *cli, const struct registry_lease *l)
{
	struct json_object *document;
	int r = 0;

	if (*l->damage) {
		document = doc_new("registry-record");
		doc_put_u64(document, "lease", l->serial);
		doc_put_text(document, "record", "damage");
		put_text(document, "damage", l->damage);
		r = cli_show_event(cli, document);
	}
	if (!r && l->lease)
		r = dump_record(cli, l->serial, "lease", &l->lease->base);
	if (!r && l->intent)
		r = dump_record(cli, l->serial, "intent", &l->intent->base);
	DUMP(l, l->serial, "memory", memories);
	DUMP(l, l->serial, "ioasid", ioasids);
	DUMP(l, l->serial, "mapping", mappings);
	DUMP(l, l->serial, "device", devices);
	DUMP(l, l->serial, "attachment", attachments);
	DUMP(l, l->serial, "key", keys);
	return r;
}

static int registry_dump(struct cli *cli, const struct cli_args *args)
{
	_cleanup_image_ struct registry_image *image = NULL;
	struct json_object *document;
	int r = image_open(cli, args_text(args, "DIR", FOLDER), &image);

	if (r)
		return r;
	document = doc_new("registry-record");
	doc_put_u64(document, "lease", 0);
	doc_put_text(document, "record", "log");
	doc_put_u64(document, "schema", image->schema);
	doc_put_bytes(document, "boot", image->boot.bytes, sizeof(image->boot.bytes));
	doc_put_u64(document, "generation", image->generation);
	doc_put_u64(document, "batches", image->batches);
	doc_put_u64(document, "bytes", image->bytes);
	doc_put_u64(document, "last_serial", image->last_serial);
	doc_put_u64(document, "event_sequence", image->event_sequence);
	if (*image->damage)
		put_text(document, "damage", image->damage);
	r = cli_show_event(cli, document);
	DUMP(image, 0, "tenant", tenants);
	DUMP(image, 0, "held", held);
	DUMP(image, 0, "key", keys);
	for (size_t i = 0; !r && i < image->n_leases; i++)
		r = dump_lease(cli, &image->leases[i]);
	return r;
}

/* ---- check ---- */

static const struct cli_column check_form[] = {
	{"path", "registry"},		{"verdict", "verdict"},
	{"generation", "generation"},	{"leases", "leases"},
	{"batches", "batches"},		{"bytes", "bytes"},
	{"damaged", "damaged batches"}, {},
};
static const struct cli_column problem_columns[] = {
	{"lease", "LEASE"},
	{"problem", "PROBLEM"},
	{},
};
static const struct cli_section check_sections[] = {
	{"problems", NULL, problem_columns},
	{},
};
static const struct cli_view check_view = {.form = check_form, .sections = check_sections};

static void problem_put(struct json_object *problems, uint64_t lease, const char *text)
{
	struct json_object *o;

	if (!*text)
		return;
	o = doc_object();
	doc_put_u64(o, "lease", lease);
	put_text(o, "problem", text);
	doc_put(problems, NULL, o);
}

static int registry_check(struct cli *cli, const struct cli_args *args)
{
	_cleanup_image_ struct registry_image *image = NULL;
	const char *folder = args_text(args, "DIR", FOLDER);
	struct json_object *document, *problems;
	size_t n;
	int r = image_open(cli, folder, &image);

	if (r)
		return r;
	problems = doc_array();
	problem_put(problems, 0, image->damage);
	for (size_t i = 0; i < image->n_leases; i++)
		problem_put(problems, image->leases[i].serial, image->leases[i].damage);
	n = json_object_array_length(problems);
	document = doc_new("registry-check");
	doc_put_text(document, "path", folder);
	doc_put_text(document, "verdict", n ? "problems" : "ok");
	doc_put_u64(document, "generation", image->generation);
	doc_put_u64(document, "leases", image->n_leases);
	doc_put_u64(document, "batches", image->batches);
	doc_put_u64(document, "bytes", image->bytes);
	doc_put_u64(document, "damaged", image->damaged);
	doc_put_bool(document, "lost", image->lost);
	doc_put(document, "problems", problems);
	r = cli_show(cli, document);
	if (r || !n)
		return r;
	return cli_fail(cli, CLI_FAILED, "DATA_LOSS", "DAMAGED", "%s: %zu problem%s", folder, n,
			n > 1 ? "s" : "");
}

static const struct cli_param registry_args[] = {
	{"DIR", CLI_FILE, .help = "the broker's folder (" FOLDER ")"},
	{},
};

const struct cli_command cmd_registry_dump = {
	.noun = "registry",
	.verb = "dump",
	.flags = CLI_OFFLINE,
	.roles = "whoever may read the folder",
	.summary = "show every record that a broker keeps for its next start",
	.help = "One line a record; with -o json one document a line.  Of secrets and other bytes "
		"only the number is shown.  A broker may be running.",
	.example = "ioasidctl -o json registry dump /run/ioasid/registry",
	.args = registry_args,
	.view = &dump_view,
	.run = registry_dump,
};
const struct cli_command cmd_registry_check = {
	.noun = "registry",
	.verb = "check",
	.flags = CLI_OFFLINE,
	.roles = "whoever may read the folder",
	.summary = "check what a broker keeps for its next start",
	.help = "Each problem is shown with the lease that has it; 0: it is of none, or of all.  "
		"Exit code 0: there is none, 1: there are some.  A broker may be running.",
	.example = "ioasidctl registry check /run/ioasid/registry",
	.args = registry_args,
	.view = &check_view,
	.run = registry_check,
};
