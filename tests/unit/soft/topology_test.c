/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Topologies: every kind of bad input is refused with its place, path and reason, and the
 * limits hold exactly.
 */

#include "soft/internal.h"
#include "soft/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A document around one IOMMU and one device; what is tested stands in line 2. */
#define IOMMU "\"name\": \"a\", \"formats\": [\"vtdss-4l\"]"
#define DEVICE                                                                                     \
	"\"address\": \"0000:01:00.0\", \"vendor_device\": \"8086:10fb\", \"class\": \"020000\", " \
	"\"iommu\": \"a\", \"group\": 1"
#define DOC(iommus, devices)                                                                       \
	"{\"version\": 1, \"iommus\": [\n" iommus "],\n\"devices\": [\n" devices "]}"
#define IOMMU_WITH(more)  DOC("{" IOMMU ", " more "}", "")
#define DEVICE_WITH(more) DOC("{" IOMMU "}", "{" DEVICE ", " more "}")

struct bad {
	const char *text;
	uint32_t line, column;
	const char *path;
	const char *message; /* a part of it */
};

static const struct bad bad[] = {
	/* not JSON */
	{"", 1, 1, "", "the text ends"},
	{"  \n ", 2, 2, "", "the text ends"},
	{"nul", 1, 1, "", "expected a value"},
	{"{} x", 1, 4, "", "more text"},
	{"{\"version\": 1,}", 1, 15, "", "name in quotes"},
	{"{\"version\" 1}", 1, 12, "", "expected ':'"},
	{"{\"version\": 1 \"iommus\": []}", 1, 15, "", "expected ',' or '}'"},
	{"{\"version\": [1 2]}", 1, 16, "version", "expected ',' or ']'"},
	{"{\"version\": 01}", 1, 13, "version", "leading zero"},
	{"{\"version\": 1.0}", 1, 13, "version", "whole numbers"},
	{"{\"version\": 1e0}", 1, 13, "version", "whole numbers"},
	{"{\"version\": -}", 1, 14, "version", "digit is missing"},
	{"{\"version\": 18446744073709551616}", 1, 13, "version", "too large"},
	{"{\"version\": -9223372036854775809}", 1, 13, "version", "too large"},
	{"{\"version\": \"", 1, 14, "version", "ends within a string"},
	{"{\"version\": \"\\", 1, 15, "version", "ends within a string"},
	{"{\"version\": \"\\x\"}", 1, 15, "version", "no such escape"},
	{"{\"version\": \"\\u12\"}", 1, 16, "version", "four hexadecimal"},
	{"{\"version\": \"\\ud800\"}", 1, 20, "version", "surrogate"},
	{"{\"version\": \"\\udc00\"}", 1, 20, "version", "surrogate"},
	{"{\"version\": \"\\u0000\"}", 1, 20, "version", "NUL"},
	{"{\"version\": \"a\tb\"}", 1, 15, "version", "control character"},
	{"{\"version\": \"\xff\"}", 1, 14, "version", "not UTF-8"},
	{"{\"version\": \"\xc0\x80\"}", 1, 14, "version", "not UTF-8"},
	{"{\"version\": \"\xed\xa0\x80\"}", 1, 14, "version", "not UTF-8"},
	{"{\"version\": \"\xf4\x90\x80\x80\"}", 1, 14, "version", "not UTF-8"},
	{"{\"version\": \"\xe2\x82\"}", 1, 14, "version", "not UTF-8"},
	{"{\"version\": 1,\n\"version\": 1}", 2, 1, "", "twice, first in line 1"},
	{"[[[[[[[[[[[[[[[[[", 1, 17, "[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]",
	 "nested too deeply"},
	/* the document */
	{"[]", 1, 1, "", "expected object, found array"},
	{"{}", 1, 1, "", "\"version\" is missing"},
	{"{\"version\": 2}", 1, 13, "version", "from 1 to 1, found 2"},
	{"{\"version\": -1}", 1, 13, "version", "found -1"},
	{"{\"version\": null}", 1, 13, "version", "expected number, found null"},
	{"{\"version\": 1}", 1, 1, "", "\"iommus\" is missing"},
	{"{\"version\": 1, \"iommus\": []}", 1, 26, "iommus", "1 to 64 IOMMUs, found 0"},
	{"{\"version\": 1, \"iommus\": [{" IOMMU "}]}", 1, 1, "", "\"devices\" is missing"},
	{"{\"version\": 1, \"Iommus\": []}", 1, 16, "", "unknown member \"Iommus\""},
	/* IOMMUs */
	{DOC("7", ""), 2, 1, "iommus[0]", "expected object, found number"},
	{DOC("{\"formats\": [\"vtdss-4l\"]}", ""), 2, 1, "iommus[0]", "\"name\" is missing"},
	{DOC("{\"name\": \"a\"}", ""), 2, 1, "iommus[0]", "\"formats\" is missing"},
	{DOC("{\"name\": \"\", \"formats\": [\"vtdss-4l\"]}", ""), 2, 10, "iommus[0].name",
	 "1 to 31 characters, found 0"},
	{DOC("{\"name\": \"12345678901234567890123456789012\", \"formats\": [\"vtdss-4l\"]}", ""),
	 2, 10, "iommus[0].name", "found 32"},
	{DOC("{\"name\": \"a b\", \"formats\": [\"vtdss-4l\"]}", ""), 2, 10, "iommus[0].name",
	 "printable ASCII without spaces"},
	{DOC("{\"name\": \"\xc3\xa4\", \"formats\": [\"vtdss-4l\"]}", ""), 2, 10, "iommus[0].name",
	 "printable ASCII"},
	{DOC("{" IOMMU "},{" IOMMU "}", ""), 2, 49, "iommus[1].name", "another IOMMU"},
	{DOC("{\"name\": \"a\", \"formats\": []}", ""), 2, 26, "iommus[0].formats", "at least one"},
	{DOC("{\"name\": \"a\", \"formats\": [\"vtdss-4L\"]}", ""), 2, 27, "iommus[0].formats[0]",
	 "unknown page-table format \"vtdss-4L\""},
	{DOC("{\"name\": \"a\", \"formats\": [\"vtdss-4l\", \"vtdss-4l\"]}", ""), 2, 39,
	 "iommus[0].formats[1]", "twice"},
	{DOC("{\"name\": \"a\", \"formats\": [1]}", ""), 2, 27, "iommus[0].formats[0]",
	 "expected string"},
	{IOMMU_WITH("\"output_bits\": 31"), 2, 55, "iommus[0].output_bits", "from 32 to 52"},
	{IOMMU_WITH("\"output_bits\": 53"), 2, 55, "iommus[0].output_bits", "from 32 to 52"},
	{IOMMU_WITH("\"output_bits\": \"48\""), 2, 55, "iommus[0].output_bits",
	 "expected number, found string"},
	{IOMMU_WITH("\"pasid_bits\": 21"), 2, 54, "iommus[0].pasid_bits", "from 0 to 20"},
	{IOMMU_WITH("\"max_depth\": 0"), 2, 53, "iommus[0].max_depth", "from 1 to 4"},
	{IOMMU_WITH("\"max_depth\": 5"), 2, 53, "iommus[0].max_depth", "from 1 to 4"},
	{IOMMU_WITH("\"snoop_control\": 1"), 2, 57, "iommus[0].snoop_control",
	 "expected true or false, found number"},
	{IOMMU_WITH("\"iotlb_entries\": 3"), 2, 57, "iommus[0].iotlb_entries", "from 4 to 1048576"},
	{IOMMU_WITH("\"iotlb_entries\": 1048577"), 2, 57, "iommus[0].iotlb_entries", "1048577"},
	{IOMMU_WITH("\"device_tlb_entries\": 4097"), 2, 62, "iommus[0].device_tlb_entries",
	 "from 0 to 4096"},
	{IOMMU_WITH("\"reserved\": [{\"start\": 0, \"last\": 4095}]"), 2, 53,
	 "iommus[0].reserved[0]", "\"use\" is missing"},
	{IOMMU_WITH("\"reserved\": [{\"start\": 4096, \"last\": 4095, \"use\": \"x\"}]"), 2, 53,
	 "iommus[0].reserved[0]", "ends before it starts"},
	{IOMMU_WITH("\"reserved\": [{\"start\": 0, \"last\": 4096, \"use\": \"x\"}]"), 2, 53,
	 "iommus[0].reserved[0]", "whole 4 KiB pages"},
	{IOMMU_WITH("\"reserved\": [{\"start\": \"fee\", \"last\": 4095, \"use\": \"x\"}]"), 2, 63,
	 "iommus[0].reserved[0].start", "like \"0xfee00000\""},
	{IOMMU_WITH("\"reserved\": [{\"start\": \"0xg\", \"last\": 4095, \"use\": \"x\"}]"), 2, 63,
	 "iommus[0].reserved[0].start", "hexadecimal digit"},
	{IOMMU_WITH("\"reserved\": [{\"start\": \"0x10000000000000000\", \"last\": 0, \"use\": "
		    "\"x\"}]"),
	 2, 63, "iommus[0].reserved[0].start", "like \"0xfee00000\""},
	{IOMMU_WITH(
		 "\"reserved\": [{\"start\": 0, \"last\": 4095, \"use\": \"1234567890123456\"}]"),
	 2, 87, "iommus[0].reserved[0].use", "1 to 15 characters"},
	{IOMMU_WITH("\"reserved\": [{\"start\": 0, \"last\": 8191, \"use\": \"x\"},"
		    "{\"start\": 4096, \"last\": 4095, \"use\": \"y\"}]"),
	 2, 92, "iommus[0].reserved[1]", "ends before"},
	{IOMMU_WITH("\"reserved\": [{\"start\": 0, \"last\": 8191, \"use\": \"x\"},"
		    "{\"start\": 4096, \"last\": 8191, \"use\": \"y\"}]"),
	 2, 92, "iommus[0].reserved[1]", "overlaps another"},
	/* devices */
	{DOC("{" IOMMU "}", "{}"), 4, 1, "devices[0]", "\"address\" is missing"},
	{DOC("{" IOMMU "}", "{\"address\": \"0000:01:00.0\"}"), 4, 1, "devices[0]",
	 "\"vendor_device\" is missing"},
	{DEVICE_WITH("\"speed\": 1"), 4, 104, "devices[0]", "unknown member \"speed\""},
	{DEVICE_WITH("\"numa_node\": -2"), 4, 117, "devices[0].numa_node", "found -2"},
	{DEVICE_WITH("\"numa_node\": 1024"), 4, 117, "devices[0].numa_node", "from 0 to 1023"},
	{DEVICE_WITH("\"host_use\": \"\""), 4, 116, "devices[0].host_use", "1 to 159"},
	{DEVICE_WITH("\"formats\": [\"vtdss-5l\"]"), 4, 115, "devices[0].formats", "IOMMU lacks"},
	{DEVICE_WITH("\"pasid_bits\": 1"), 4, 118, "devices[0].pasid_bits", "than its IOMMU has"},
	{DEVICE_WITH("\"snoop_control\": true"), 4, 121, "devices[0].snoop_control", "only false"},
	{DEVICE_WITH("\"device_tlb\": true"), 4, 118, "devices[0].device_tlb", "only false"},
	{DOC("{" IOMMU "}", "{" DEVICE "},\n{" DEVICE "}"), 5, 13, "devices[1].address",
	 "another device has the address"},
};

static void test_bad(void **state)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct bad *b = &bad[i];
		struct soft_problem p = {0};
		struct shim *shim = NULL;
		int r = soft_shim_new_from_memory(b->text, strlen(b->text), NULL, &shim, &p);

		if (r != SOFT_E_TOPOLOGY || p.line != b->line || p.column != b->column ||
		    strcmp(p.path, b->path) || !strstr(p.message, b->message))
			fail_msg("%s\ngives %d %u:%u \"%s\": %s\nnot %u:%u \"%s\": %s", b->text, r,
				 p.line, p.column, p.path, p.message, b->line, b->column, b->path,
				 b->message);
		assert_string_equal(p.file, "<memory>");
		assert_null(shim);
	}
}

/* One member of the device at a time, the others right. */
static void test_bad_device_members(void **state)
{
	static const struct {
		const char *member, *value;
	} cases[] = {
		{"address", "\"0000:1:00.0\""},
		{"address", "\"0000:01:20.0\""},
		{"address", "\"0000:01:00.8\""},
		{"address", "\"0000:01:00.\""},
		{"address", "\"0000:01:00.00\""},
		{"address", "\"0000:0A:00.0\""},
		{"address", "\"000:01:00.0\""},
		{"address", "7"},
		{"vendor_device", "\"8086\""},
		{"vendor_device", "\"8086:10fb0\""},
		{"vendor_device", "\"8086-10fb\""},
		{"vendor_device", "\"8086:10FB\""},
		{"class", "\"02000\""},
		{"class", "\"0200000\""},
		{"class", "131072"},
		{"iommu", "\"b\""},
		{"iommu", "0"},
		{"group", "-1"},
		{"group", "4294967296"},
		{"group", "\"1\""},
	};
	static const struct {
		const char *member, *value;
	} good[] = {
		{"address", "\"0000:01:1f.7\""}, {"vendor_device", "\"8086:10fb\""},
		{"class", "\"020000\""},	 {"iommu", "\"a\""},
		{"group", "4294967295"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) + 1; i++) {
		bool is_bad = i < sizeof(cases) / sizeof(cases[0]);
		struct soft_problem p = {0};
		struct shim *shim = NULL;
		char text[1024], path[64];
		size_t n;
		int r;

		n = (size_t)snprintf(text, sizeof(text),
				     "{\"version\": 1, \"iommus\": [{" IOMMU "}], \"devices\": [{");
		for (size_t k = 0; k < 5; k++) {
			bool here = is_bad && !strcmp(cases[i].member, good[k].member);

			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"%s\": %s",
					      k ? ", " : "", good[k].member,
					      here ? cases[i].value : good[k].value);
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "}]}");
		r = soft_shim_new_from_memory(text, n, NULL, &shim, &p);
		if (!is_bad) {
			assert_int_equal(r, 0);
			shim_free(shim);
			continue;
		}
		snprintf(path, sizeof(path), "devices[0].%s", cases[i].member);
		assert_int_equal(r, SOFT_E_TOPOLOGY);
		assert_string_equal(p.path, path);
		assert_true(p.message[0]);
	}
}

/* Every text that is cut short is refused, and none reads beyond its end. */
static void test_truncated(void **state)
{
	size_t length = strlen(soft_builtin_topology);

	while (soft_builtin_topology[length - 1] == '\n')
		length--;
	for (size_t n = 0; n < length; n++) {
		struct soft_problem p = {0};
		struct shim *shim = NULL;
		char *text = malloc(n ? n : 1);

		assert_non_null(text);
		memcpy(text, soft_builtin_topology, n);
		assert_int_equal(soft_shim_new_from_memory(text, n, NULL, &shim, &p),
				 SOFT_E_TOPOLOGY);
		assert_true(p.line > 0 && p.column > 0 && p.message[0]);
		free(text);
	}
}

static void test_order_does_not_matter(void **state)
{
	static const char text[] = "{\"devices\": [{" DEVICE "}], \"iommus\": [{\"formats\": "
				   "[\"vtdss-4l\"], \"name\": \"a\"}], \"version\": 1}";
	struct shim *shim;

	assert_int_equal(soft_shim_new_from_memory(text, strlen(text), NULL, &shim, NULL), 0);
	assert_int_equal(shim_device_count(shim), 1);
	shim_free(shim);
}

static void test_restrictions(void **state)
{
	static const char text[] =
		"{\"version\": 1, \"iommus\": [{\"name\": \"a\", \"formats\": [\"vtdss-4l\", "
		"\"x86_64-4l\"], \"output_bits\": 40, \"pasid_bits\": 8, \"max_depth\": 1, "
		"\"snoop_control\": true, \"device_tlb_entries\": 8, \"reserved\": [{\"start\": "
		"0, \"last\": \"0xFFF\", \"use\": \"zero\"}]}], \"devices\": [{" DEVICE
		", \"formats\": [\"vtdss-4l\"], \"pasid_bits\": 4, \"snoop_control\": false, "
		"\"device_tlb\": false, \"numa_node\": -1, \"reserved\": [{\"start\": "
		"\"0xfee00000\", \"last\": 4277141503, \"use\": \"msi\"}]}]}";
	const struct shim_device_info *info;
	struct soft_problem p = {0};
	struct shim *shim;

	if (soft_shim_new_from_memory(text, strlen(text), NULL, &shim, &p))
		fail_msg("%u:%u %s: %s", p.line, p.column, p.path, p.message);
	info = shim_device_info(shim, 0);
	assert_int_equal(info->caps.n_formats, 1);
	assert_int_equal(info->caps.formats[0].format, SHIM_FORMAT_VTDSS_4L);
	assert_int_equal(info->caps.formats[0].output_bits, 40);
	assert_false(info->caps.formats[0].nest_child);
	assert_int_equal(info->caps.pasid_bits, 4);
	assert_int_equal(info->caps.max_depth, 1);
	assert_false(info->caps.snoop_control);
	assert_false(info->caps.device_tlb);
	assert_int_equal(info->caps.n_reserved, 2);
	assert_int_equal(info->caps.reserved[0].last, 0xfff);
	assert_int_equal(info->caps.reserved[1].last, 0xfee00000u + 0xfffff);
	assert_int_equal(info->numa_node, -1);
	/* The physical space is no wider than the narrowest IOMMU puts out. */
	assert_true(soft_shim_of(shim)->window.bytes <= 1ull << 40);
	shim_free(shim);
}

static char *many_devices(size_t n, size_t *ret_length)
{
	size_t room = 128 + n * 160, at = 0;
	char *text = malloc(room);

	assert_non_null(text);
	at += (size_t)snprintf(text, room,
			       "{\"version\": 1, \"iommus\": [{" IOMMU "}], \"devices\": [");
	/* Backwards, so that they are not in order. */
	for (size_t i = n; i-- > 0;)
		at += (size_t)snprintf(
			text + at, room - at,
			"{\"address\": \"%04zx:%02zx:%02zx.%zu\", \"vendor_device\": "
			"\"8086:10fb\", \"class\": \"020000\", \"iommu\": \"a\", "
			"\"group\": %zu}%s",
			i >> 16, i >> 8 & 0xff, i >> 3 & 0x1f, i & 7, i, i ? "," : "");
	at += (size_t)snprintf(text + at, room - at, "]}");
	*ret_length = at;
	return text;
}

static void test_many_devices(void **state)
{
	struct soft_problem p = {0};
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim *shim;
	size_t length;
	char *text = many_devices(SOFT_DEVICES_MAX, &length);

	if (soft_shim_new_from_memory(text, length, NULL, &shim, &p))
		fail_msg("%u:%u %s: %s", p.line, p.column, p.path, p.message);
	free(text);
	assert_int_equal(shim_device_count(shim), SOFT_DEVICES_MAX);
	assert_int_equal(shim_ctx_new(shim, "org", NULL, &ctx), 0);
	assert_int_equal(shim_dev_bind_one(ctx, "0000:00:00.0", NULL, &dev), 0);
	assert_int_equal(shim_dev_bind_one(ctx, "0000:3f:1f.7", NULL, &dev), 0);
	assert_int_equal(shim_dev_bind_one(ctx, "0000:40:00.0", NULL, &dev), SHIM_E_NO_DEVICE);
	shim_ctx_free(ctx);
	shim_free(shim);

	text = many_devices(SOFT_DEVICES_MAX + 1, &length);
	assert_int_equal(soft_shim_new_from_memory(text, length, NULL, &shim, &p), SOFT_E_TOPOLOGY);
	assert_string_equal(p.path, "devices");
	free(text);
}

static void test_files(void **state)
{
	char path[] = "/tmp/soft-topology-XXXXXX";
	struct soft_problem p = {0};
	struct shim *shim = NULL;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(soft_shim_new("/nonexistent/topology", NULL, &shim, &p), -ENOENT);
	assert_int_equal(soft_shim_new("/tmp", NULL, &shim, &p), -EISDIR);
	assert_int_equal(soft_shim_new("/dev/zero", NULL, &shim, &p), -EINVAL);
	assert_int_equal(soft_shim_new(path, NULL, &shim, &p), SOFT_E_TOPOLOGY);
	assert_string_equal(p.file, path);
	assert_int_equal(write(fd, soft_builtin_topology, strlen(soft_builtin_topology)),
			 (ssize_t)strlen(soft_builtin_topology));
	assert_int_equal(soft_shim_new(path, NULL, &shim, &p), 0);
	assert_int_equal(shim_device_count(shim), 8);
	shim_free(shim);
	assert_int_equal(ftruncate(fd, SOFT_JSON_BYTES_MAX + 1), 0);
	shim = NULL;
	assert_int_equal(soft_shim_new(path, NULL, &shim, &p), -EFBIG);
	assert_null(shim);
	close(fd);
	unlink(path);
}

static void test_options(void **state)
{
	struct soft_options options = {.physical_bytes = 32ull << 20};
	struct shim *shim = NULL;

	assert_int_equal(soft_shim_new(NULL, &options, &shim, NULL), -EINVAL);
	options.physical_bytes = (64ull << 20) + 4096;
	assert_int_equal(soft_shim_new(NULL, &options, &shim, NULL), -EINVAL);
	options.physical_bytes = 1ull << 63;
	assert_int_equal(soft_shim_new(NULL, &options, &shim, NULL), -ENOMEM);
	assert_null(shim);
	options.physical_bytes = 64ull << 20;
	assert_int_equal(soft_shim_new(NULL, &options, &shim, NULL), 0);
	shim_free(shim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),	     cmocka_unit_test(test_bad_device_members),
		cmocka_unit_test(test_truncated),    cmocka_unit_test(test_order_does_not_matter),
		cmocka_unit_test(test_restrictions), cmocka_unit_test(test_many_devices),
		cmocka_unit_test(test_files),	     cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
