/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory register, unregister, list: memory that devices may be given.  register makes a
 * memfd, or takes one that is there; the broker keeps it for as long as it is registered,
 * whatever becomes of this process.  memory fill, write, read: the CPU's view of what this process registered; they
 * make sense inside `ioasidctl shell` only.
 */
#include "args.h"
#include "bytes.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

SESSION_CLEANUP(ioasid_memory, ioasid_memory_free)
SESSION_CLEANUP(ioasid_memories, ioasid_memories_free)

static const struct cli_column list_columns[] = {
	{"memory", "MEMORY"},
	{"length", "LENGTH", RENDER_SIZE},
	{"page_size", "PAGE", RENDER_SIZE},
	{"", "ACCESS", RENDER_PROT},
	{"mappings", "MAPPINGS"},
	{"label", "LABEL", .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"memories", NULL, list_columns, .empty = "no memory is registered in this lease"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "memory"};

static const struct cli_column register_form[] = {
	{"memory", "memory"},
	{"length", "length", RENDER_SIZE},
	{"page_size", "page size", RENDER_SIZE},
	{"", "access", RENDER_PROT},
	{"label", "label", .optional = true},
	{},
};
static const struct cli_view register_view = {.form = register_form, .id = "memory"};

static const struct cli_column unregister_form[] = {
	{"memory", "memory"},
	{"pending", "pending until unmapped", RENDER_BOOL, .optional = true},
	{},
};
static const struct cli_view unregister_view = {.form = unregister_form, .id = "memory"};

#define HUGE_PAGE (UINT64_C(2) << 20)

struct mapped {
	int fd;
	uint8_t *bytes;
	size_t size;
};
static void mapped_deinit(struct mapped *m)
{
	if (m->bytes)
		munmap(m->bytes, m->size);
	if (m->fd >= 0)
		close(m->fd);
}

/* Reads the whole file into the memory. */
static int copy_file(struct cli *cli, const char *path, uint8_t *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	int r = CLI_OK;

	if (fd < 0)
		return cli_errno(cli, errno, "cannot open %s", path);
	while (done < size) {
		ssize_t n = read(fd, to + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = cli_errno(cli, errno, "cannot read %s", path);
		if (n <= 0)
			break;
		done += n;
	}
	close(fd);
	return r;
}

/* A memfd of size bytes, filled so that it has no holes, sealed against shrinking. */
static int make_memory(struct cli *cli, uint64_t size, uint64_t page, bool huge,
		       struct mapped *ret_mapped)
{
	__attribute__((cleanup(mapped_deinit))) struct mapped m = {.fd = -1};
	void *bytes;

	m.fd = memfd_create("ioasidctl", MFD_CLOEXEC | MFD_ALLOW_SEALING |
						 (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (m.fd < 0)
		return cli_errno(cli, errno, "cannot make a memfd");
	if (size > INT64_MAX || ftruncate(m.fd, (off_t)size) < 0)
		return cli_errno(cli, size > INT64_MAX ? EFBIG : errno,
				 "cannot make a memfd of that size");
	/* Here and not by a fault below: without room this fails, a fault would be SIGBUS. */
	if (fallocate(m.fd, 0, 0, (off_t)size) < 0)
		return cli_errno(cli, errno, "cannot allocate the memory");
	if (fcntl(m.fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return cli_errno(cli, errno, "cannot seal the memfd");
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	if (bytes == MAP_FAILED)
		return cli_errno(cli, errno, "cannot map the memfd");
	m.bytes = bytes;
	m.size = size;
	/*
	 * Memory with holes is refused (pinning a hole would allocate in the broker's name), and
	 * a page that was allocated but never touched is shown as a hole.
	 */
	for (uint64_t at = 0; at < size; at += page)
		((volatile uint8_t *)m.bytes)[at] = 0;
	*ret_mapped = m;
	m = (struct mapped){.fd = -1};
	return CLI_OK;
}

/* The size to register: --size, or that of --file; whole pages. */
static int wanted_size(struct cli *cli, const struct cli_args *args, uint64_t page,
		       uint64_t *ret_size)
{
	const char *file = args_text(args, "file", NULL);
	uint64_t size = args_number(args, "size", 0);
	struct stat st;

	if (!file && !size)
		return cli_usage(cli, "memory register: expected --size BYTES, --file PATH or --fd N");
	if (file) {
		if (stat(file, &st) < 0)
			return cli_errno(cli, errno, "cannot read %s", file);
		if (!S_ISREG(st.st_mode))
			return cli_usage(cli, "--file: %s is not a regular file", file);
		if (!size)
			size = ((uint64_t)st.st_size + page - 1) / page * page;
		if (!size)
			return cli_usage(cli, "--file: %s is empty", file);
		if (size < (uint64_t)st.st_size)
			return cli_usage(cli, "--size: %s does not fit, it has %lld bytes", file,
					 (long long)st.st_size);
	}
	if (size % page)
		return cli_usage(cli, "--size: expected a multiple of the page size, %llu",
				 (unsigned long long)page);
	*ret_size = size;
	return CLI_OK;
}

/* A memfd of somebody else's, by the number of a descriptor of this process. */
static int register_fd(struct cli *cli, const struct cli_args *args, uint32_t prot)
{
	static const char *const made[] = {"size", "file", "fill", "huge"};
	_cleanup_with_(ioasid_memory_free) struct ioasid_memory *memory = NULL;
	_cleanup_call_ struct session_call c = {};
	int fd = (int)args_number(args, "fd", 0), r;

	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		if (args_has(args, made[i]))
			return cli_usage(cli, "--fd and --%s exclude each other: the memory is there",
					 made[i]);
	if (fcntl(fd, F_GETFD) < 0)
		return cli_usage(cli, "--fd: %d is not an open descriptor", fd);
	r = session_begin(cli, &c);
	if (r)
		return r;
	if (ioasid_register_memory(c.client, &c.scope, fd, 0, 0, prot,
				   args_text(args, "label", NULL), &memory, &c.error) < 0)
		return session_fail(cli, c.error);
	return cli_show(cli, doc_of("memory-register", object_memory(memory)));
}

static int memory_register(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_memory_free) struct ioasid_memory *memory = NULL;
	__attribute__((cleanup(mapped_deinit))) struct mapped m = {.fd = -1};
	_cleanup_call_ struct session_call c = {};
	const char *file = args_text(args, "file", NULL);
	const struct cli_value *fill = args_at(args, "fill", 0);
	uint32_t prot = (uint32_t)args_number(args, "prot", IOASID_READ | IOASID_WRITE);
	bool huge = args_has(args, "huge");
	uint64_t size = 0, page = huge ? HUGE_PAGE : (uint64_t)sysconf(_SC_PAGESIZE);
	int r = CLI_OK;

	if (prot & IOASID_EXECUTE)
		return cli_usage(cli, "--prot: expected r, w or rw; memory has no execute access");
	if (args_has(args, "fd"))
		return register_fd(cli, args, prot);
	r = wanted_size(cli, args, page, &size);
	if (!r)
		r = session_begin(cli, &c);
	if (!r)
		r = make_memory(cli, size, page, huge, &m);
	if (!r && fill)
		bytes_repeat(m.bytes, m.size, fill->bytes, fill->n_bytes);
	if (!r && file)
		r = copy_file(cli, file, m.bytes, m.size);
	if (r)
		return r;
	if (ioasid_register_memory(c.client, &c.scope, m.fd, 0, 0, prot,
				   args_text(args, "label", NULL), &memory, &c.error) < 0)
		return session_fail(cli, c.error);
	session_memory_keep(cli, memory->id, m.fd, m.bytes, m.size);
	m = (struct mapped){.fd = -1};
	return cli_show(cli, doc_of("memory-register", object_memory(memory)));
}

static int memory_unregister(struct cli *cli, const struct cli_args *args)
{
	uint64_t id = args_number(args, "MEMORY", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	bool pending;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_unregister_memory(c.client, &c.scope, id, &pending, &c.error) < 0)
		return session_fail(cli, c.error);
	if (!pending)
		session_memory_drop(cli, id);
	document = doc_new("memory-unregister");
	doc_put_u64(document, "memory", id);
	doc_put_bool(document, "pending", pending);
	return cli_show(cli, document);
}

static int memory_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_memories_free) struct ioasid_memories *memories = NULL;
	struct json_object *document, *list;
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_memory_list(c.client, &c.scope, &memories, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("memory-list");
	list = doc_array();
	for (size_t i = 0; i < memories->n; i++)
		doc_put(list, NULL, object_memory(memories->items[i]));
	doc_put(document, "memories", list);
	return cli_show(cli, document);
}

/* ---- the CPU's view ---- */

static int view_of(struct cli *cli, const struct cli_args *args, uint64_t length,
		   uint8_t **ret_bytes)
{
	struct session_memory *m = session_memory_find(cli, args_number(args, "MEMORY", 0));
	uint64_t offset = args_number(args, "OFFSET", 0);

	if (!m)
		return cli->error_exit;
	if (offset > m->size || length > m->size - offset)
		return cli_usage(cli, "OFFSET: %llu bytes at %llu are beyond the memory's %zu",
				 (unsigned long long)length, (unsigned long long)offset, m->size);
	*ret_bytes = m->bytes + offset;
	return CLI_OK;
}

static struct json_object *moved(const char *type, const struct cli_args *args, uint64_t n)
{
	struct json_object *document = doc_new(type);

	doc_put_u64(document, "memory", args_number(args, "MEMORY", 0));
	doc_put_u64(document, "offset", args_number(args, "OFFSET", 0));
	doc_put_u64(document, "done", n);
	return document;
}

static int memory_write(struct cli *cli, const struct cli_args *args)
{
	_cleanup_(bytes_deinit) struct bytes data = {};
	uint8_t *to;
	int r = bytes_source(cli, args, &data);

	if (!r)
		r = view_of(cli, args, data.n, &to);
	if (r)
		return r;
	memcpy(to, data.bytes, data.n);
	return cli_show(cli, moved("memory-write", args, data.n));
}

static int memory_fill(struct cli *cli, const struct cli_args *args)
{
	const struct cli_value *pattern = args_at(args, "HEX", 0);
	uint64_t length = args_number(args, "LENGTH", 0);
	uint8_t *to;
	int r = view_of(cli, args, length, &to);

	if (r)
		return r;
	bytes_repeat(to, length, pattern->bytes, pattern->n_bytes);
	return cli_show(cli, moved("memory-fill", args, length));
}

static int memory_read(struct cli *cli, const struct cli_args *args)
{
	uint64_t length = args_number(args, "LENGTH", 0);
	struct json_object *document;
	uint8_t *from;
	int r = view_of(cli, args, length, &from);

	if (r)
		return r;
	document = moved("memory-read", args, length);
	return bytes_answer(cli, args, from, length, document);
}

static const struct cli_column moved_form[] = {
	{"memory", "memory"},
	{"offset", "offset", RENDER_SIZE},
	{"done", "bytes", RENDER_SIZE},
	{},
};
static const struct cli_column read_form[] = {
	{"file", "written to", .optional = true},
	{"equal", "as expected", RENDER_BOOL, .optional = true},
	{},
};
static const struct cli_view moved_view = {.form = moved_form, .id = "done"};
static const struct cli_view read_view = {.form = read_form, .data = true, .id = "data"};

static const struct cli_param register_options[] = {
	{"size", CLI_SIZE, .help = "bytes, a multiple of the page size", .min = 1},
	{"file", CLI_FILE,
	 .help = "register a copy of this file; what is beyond it is --fill or zero"},
	{"prot", CLI_PROT, .help = "what devices may do there (rw)", .value = "rw"},
	{"fill", CLI_HEX, .help = "fill the memory with these bytes, over and over"},
	{"huge", CLI_FLAG, .help = "of pages of 2 MiB (the host must have some free)"},
	{"fd", CLI_UINT, .help = "register the memfd that is open as this descriptor",
	 .max = 1 << 20},
	{"label", CLI_TEXT, .help = "for people, at most 64 bytes", .max = 64},
	{},
};
static const struct cli_param one_memory[] = {
	{"MEMORY", CLI_ID, CLI_REQUIRED, .help = "id of registered memory"},
	{},
};
static const struct cli_param write_args[] = {
	{"MEMORY", CLI_ID, CLI_REQUIRED, .help = "id of registered memory"},
	{"OFFSET", CLI_SIZE, CLI_REQUIRED, .help = "where in it, bytes"},
	{},
};
static const struct cli_param fill_args[] = {
	{"MEMORY", CLI_ID, CLI_REQUIRED, .help = "id of registered memory"},
	{"OFFSET", CLI_SIZE, CLI_REQUIRED, .help = "where in it, bytes"},
	{"LENGTH", CLI_SIZE, CLI_REQUIRED, .help = "bytes", .min = 1},
	{"HEX", CLI_HEX, CLI_REQUIRED, .help = "bytes to repeat, such as 00 or deadbeef"},
	{},
};
static const struct cli_param write_options[] = {BYTES_SOURCE_OPTIONS, {}};
static const struct cli_param read_options[] = {BYTES_ANSWER_OPTIONS, {}};
static const struct cli_param read_args[] = {
	{"MEMORY", CLI_ID, CLI_REQUIRED, .help = "id of registered memory"},
	{"OFFSET", CLI_SIZE, CLI_REQUIRED, .help = "where in it, bytes"},
	{"LENGTH", CLI_SIZE, CLI_REQUIRED, .help = "bytes", .min = 1},
	{},
};

const struct cli_command cmd_memory_register = {
	.noun = "memory",
	.verb = "register",
	.roles = "tenant, agent",
	.summary = "make memory (a memfd) and register it with the broker",
	.help = "The broker holds the memory until it is unregistered or the lease ends; this "
		"process need not stay.",
	.example = "ioasidctl memory register --size 2M --fill 00 --label ring",
	.options = register_options,
	.view = &register_view,
	.run = memory_register,
};
const struct cli_command cmd_memory_unregister = {
	.noun = "memory",
	.verb = "unregister",
	.roles = "tenant, agent",
	.summary = "give memory back; it stays charged while it is mapped",
	.args = one_memory,
	.view = &unregister_view,
	.run = memory_unregister,
};
const struct cli_command cmd_memory_list = {
	.noun = "memory",
	.verb = "list",
	.roles = "tenant, agent",
	.summary = "list the memory registered in the lease",
	.view = &list_view,
	.run = memory_list,
};
const struct cli_command cmd_memory_write = {
	.noun = "memory",
	.verb = "write",
	.flags = CLI_OFFLINE,
	.roles = "tenant, agent",
	.summary = "write bytes with the CPU (shell only)",
	.args = write_args,
	.options = write_options,
	.view = &moved_view,
	.run = memory_write,
};
const struct cli_command cmd_memory_fill = {
	.noun = "memory",
	.verb = "fill",
	.flags = CLI_OFFLINE,
	.roles = "tenant, agent",
	.summary = "fill a range with the CPU (shell only)",
	.args = fill_args,
	.view = &moved_view,
	.run = memory_fill,
};
const struct cli_command cmd_memory_read = {
	.noun = "memory",
	.verb = "read",
	.flags = CLI_OFFLINE,
	.roles = "tenant, agent",
	.summary = "read bytes with the CPU (shell only)",
	.args = read_args,
	.options = read_options,
	.view = &read_view,
	.run = memory_read,
};
