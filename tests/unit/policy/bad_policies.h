/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_BAD_POLICIES_H
#define IOASID_TESTS_BAD_POLICIES_H

/*
 * Texts that are no policy, and what is to be said about each: position, path and message,
 * written by hand from docs/policy.md and RFC 8259.  A text with a NUL inside has a length.
 */

struct bad_policy {
	const char *text;
	unsigned line, column;
	const char *path;
	const char *message;
	unsigned long length; /* 0: strlen(text) */
};

/* 64 bytes, and what is left of them in a path that is cut. */
#define C64	"a123456789012345678901234567890123456789012345678901234567890123"
#define C64_CUT "a123456789012345678901234567890123456789012345678901"

/* A file with one tenant "a" whose member is given, on line 2 from column 16 on. */
#define TENANT(member) "{\"version\": 1,\n \"tenants\": {\"a\": {" member "}}}"
#define LIMIT(member)  TENANT("\"limits\": {" member "}")
/* A file with the tenant "a" and identities, from line 3 on. */
#define IDENTITIES(list)                                                                           \
	"{\"version\": 1,\n \"tenants\": {\"a\": {}},\n \"identities\": [" list "]}"
#define HOST(member) "{\"version\": 1,\n \"host\": {" member "}}"

static const struct bad_policy bad_policies[] = {
	/* ---- the text is not JSON ---- */
	{"", 1, 1, "", "expected a value, found the end of the text"},
	{" \n\t", 2, 2, "", "expected a value, found the end of the text"},
	{"{", 1, 2, "", "expected a key in quotes or '}', found the end of the text"},
	{"{\"version\": 1", 1, 14, "", "expected ',' or '}', found the end of the text"},
	{"{\"version\": 1}\n{}", 2, 1, "", "expected the end of the text, found '{'"},
	{"{\"version\": 1},", 1, 15, "", "expected the end of the text, found ','"},
	{"{\"version\": 1,}", 1, 15, "", "expected a key in quotes, found '}'"},
	{"{\"version\": 1 \"host\": {}}", 1, 15, "", "expected ',' or '}', found '\"'"},
	{"{\"version\" 1}", 1, 12, "version", "expected ':', found '1'"},
	{"{\"version\": }", 1, 13, "version", "expected a value, found '}'"},
	{"{version: 1}", 1, 2, "", "expected a key in quotes or '}', found 'v'"},
	{"{'version': 1}", 1, 2, "", "expected a key in quotes or '}', found '''"},
	{"// policy\n{\"version\": 1}", 1, 1, "",
	 "expected a value, found '/'; comments are not part of JSON"},
	{"{\"version\": 1, # one\n}", 1, 16, "",
	 "expected a key in quotes, found '#'; comments are not part of JSON"},
	{"{\"version\": 1 /* one */}", 1, 15, "",
	 "expected ',' or '}', found '/'; comments are not part of JSON"},
	{"\xef\xbb\xbf{\"version\": 1}", 1, 1, "", "expected a value, found a byte order mark"},
	{"{\"version\": 01}", 1, 13, "version", "a number does not begin with a zero"},
	{"{\"version\": +1}", 1, 13, "version", "expected a value, found '+'"},
	{"{\"version\": 1.}", 1, 15, "version", "expected a digit, found '}'"},
	{"{\"version\": 1e}", 1, 15, "version", "expected a digit, found '}'"},
	{"{\"version\": -}", 1, 14, "version", "expected a digit, found '}'"},
	{"{\"version\": NaN}", 1, 13, "version", "expected a value, found 'N'"},
	{"{\"version\": nul}", 1, 13, "version", "expected a value, found 'n'"},
	{"{\"version\": True}", 1, 13, "version", "expected a value, found 'T'"},
	{"{\"version\": 0x1}", 1, 14, "", "expected ',' or '}', found 'x'"},
	{"{\"version\": 1, \"host", 1, 16, "", "the string that begins here does not end"},
	{"{\"version\": 1, \"ho\nst\": {}}", 1, 19, "", "control character 0x0a in a string"},
	{"{\"version\": 1, \"ho\\x\": {}}", 1, 19, "", "a backslash begins no known escape here"},
	{"{\"version\": 1, \"\\u12g4\": {}}", 1, 17, "", "\\u takes four hexadecimal digits"},
	{"{\"version\": 1, \"\\ud800\": {}}", 1, 17, "",
	 "\\u escape of a surrogate; write the character itself"},
	{"{\"version\": 1, \"\\udc00\\ud800\": {}}", 1, 17, "",
	 "\\u escape of a surrogate; write the character itself"},
	{"{\"version\": 1, \"\\ud834\\udd1e\": {}}", 1, 17, "",
	 "\\u escape of a surrogate; write the character itself"},
	{"{\"version\": 1, \"host\\u0000\": {}}", 1, 21, "",
	 "\\u0000 (NUL) is not allowed in a string"},
	{"{\"version\": 1, \"\xc0\x80\": {}}", 1, 17, "", "byte 0xc0 is no valid UTF-8 here"},
	{"{\"version\": 1, \"\xed\xa0\x80\": {}}", 1, 17, "", "byte 0xed is no valid UTF-8 here"},
	{"{\"version\": 1, \"\xf4\x90\x80\x80\": {}}", 1, 17, "",
	 "byte 0xf4 is no valid UTF-8 here"},
	{"{\"version\": 1, \"\xe2\x82\": {}}", 1, 17, "", "byte 0xe2 is no valid UTF-8 here"},
	{"{\"version\": 1\xff}", 1, 14, "", "expected ',' or '}', found byte 0xff"},
	{"{\"version\": 1}\0", 1, 15, "", "expected the end of the text, found a NUL byte", 15},
	{"{\"version\"\0: 1}", 1, 11, "version", "expected ':', found a NUL byte", 15},
	{"{\"version\": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", 1, 28,
	 "version[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]", "nested deeper than 16 levels"},
	{"{\"tenants\": {\"a.b\": {\"devices\": [{\"any\": true},\n{\"any\": tru}]}}}", 2, 9,
	 "tenants[\"a.b\"].devices[1].any", "expected a value, found 't'"},

	/* ---- the file as a whole ---- */
	{"[]", 1, 1, "", "expected an object, found an array"},
	{"5", 1, 1, "", "expected an object, found a number"},
	{"\n \"x\"", 2, 2, "", "expected an object, found a string"},
	{"null", 1, 1, "", "expected an object, found null"},
	{"{}", 1, 1, "", "the key \"version\" is missing"},
	{"{\"host\": {}}", 1, 1, "", "the key \"version\" is missing"},
	{"{\"version\": 2}", 1, 13, "version", "expected version 1, found 2"},
	{"{\"version\": \"1\"}", 1, 13, "version", "expected the number 1, found a string"},
	{"{\"version\": 1.0}", 1, 13, "version",
	 "expected the number 1, found a number with a fraction or an exponent"},
	{"{\"version\": -1}", 1, 13, "version", "expected the number 1, found a negative number"},
	{"{\"version\": null}", 1, 13, "version", "expected the number 1, found null"},
	{"{\"version\": 1,\n\"version\": 1}", 2, 1, "version",
	 "this key is there twice, first at 1:2"},
	{"{\"version\": 1,\n\"v\\u0065rsion\": 1}", 2, 1, "version",
	 "this key is there twice, first at 1:2"},
	{"{\"version\": 1,\n \"tenant\": {}}", 2, 2, "tenant",
	 "unknown key, expected one of \"version\", \"host\", \"tenants\", \"identities\""},
	{"{\"version\": 1,\n \"a\\nb\": {}}", 2, 2, "[\"a?b\"]",
	 "unknown key, expected one of \"version\", \"host\", \"tenants\", \"identities\""},
	{"{\"version\": 1, \"host\": []}", 1, 24, "host", "expected an object, found an array"},
	{"{\"version\": 1, \"tenants\": []}", 1, 27, "tenants",
	 "expected an object, found an array"},
	{"{\"version\": 1, \"identities\": {}}", 1, 30, "identities",
	 "expected an array, found an object"},

	/* ---- tenants ---- */
	{"{\"version\": 1, \"tenants\": {\"a\": null}}", 1, 33, "tenants.a",
	 "expected an object, found null"},
	{"{\"version\": 1, \"tenants\": {\"\": {}}}", 1, 28, "tenants[\"\"]",
	 "not a good tenant path: it is empty"},
	{"{\"version\": 1, \"tenants\": {\"a\": {}, \"a//b\": {}}}", 1, 37, "tenants.a//b",
	 "not a good tenant path: a component is empty"},
	{"{\"version\": 1, \"tenants\": {\"/a\": {}}}", 1, 28, "tenants./a",
	 "not a good tenant path: a component is empty"},
	{"{\"version\": 1, \"tenants\": {\"a/\": {}}}", 1, 28, "tenants.a/",
	 "not a good tenant path: a component is empty"},
	{"{\"version\": 1, \"tenants\": {\"a b\": {}}}", 1, 28, "tenants[\"a b\"]",
	 "not a good tenant path: only A-Z a-z 0-9 - _ . are allowed between the slashes"},
	{"{\"version\": 1, \"tenants\": {\"\xc3\xa4\": {}}}", 1, 28, "tenants[\"\xc3\xa4\"]",
	 "not a good tenant path: only A-Z a-z 0-9 - _ . are allowed between the slashes"},
	{"{\"version\": 1, \"tenants\": {\"..\": {}}}", 1, 28, "tenants[\"..\"]",
	 "not a good tenant path: a component begins with a letter or a digit"},
	{"{\"version\": 1, \"tenants\": {\"a/b/c/d/e/f/g/h/i\": {}}}", 1, 28,
	 "tenants.a/b/c/d/e/f/g/h/i", "not a good tenant path: it has more than 8 components"},
	{"{\"version\": 1, \"tenants\": {\n"
	 "\"a123456789012345678901234567890123456789012345678901234567890123\": {}}}",
	 2, 1, "tenants.a123456789012345678901234567890123456789012345678901234567890123",
	 "not a good tenant path: a component is longer than 63 bytes"},
	{"{\"version\": 1, \"tenants\": {\n\"" C64 "/" C64 "/" C64 "/" C64 "\": {}}}", 2, 1,
	 "tenants." C64 "/" C64 "/" C64 "/" C64_CUT,
	 "not a good tenant path: it is longer than 255 bytes"},
	{"{\"version\": 1, \"tenants\": {\"a\": {}, \"a\": {}}}", 1, 37, "tenants.a",
	 "this tenant is defined twice, first at test.json:1:28"},
	{"{\"version\": 1, \"tenants\": {\n\"a/b\": {}}}", 2, 1, "tenants.a/b",
	 "its parent \"a\" is not defined"},
	{"{\"version\": 1, \"tenants\": {\"a\": {},\n\"a/b/c\": {}}}", 2, 1, "tenants.a/b/c",
	 "its parent \"a/b\" is not defined"},
	{"{\"version\": 1, \"tenants\": {\"a\": {},\n \"b\": {},\n  \"a\": {}}}", 3, 3, "tenants.a",
	 "this tenant is defined twice, first at test.json:1:28"},
	{"{\"version\": 1, \"tenants\": {\"a\": {},\n \"\\u0061\": {}}}", 2, 2, "tenants.a",
	 "this tenant is defined twice, first at test.json:1:28"},
	{TENANT("\"limit\": {}"), 2, 20, "tenants.a.limit",
	 "unknown key, expected one of \"limits\", \"reservations\", \"devices\", \"formats\", "
	 "\"kinds\", \"pasid_policy\", \"delegate\""},
	{TENANT("\"limits\": {},\n\"limits\": {}"), 3, 1, "tenants.a.limits",
	 "this key is there twice, first at 2:20"},
	{TENANT("\"allow_host_devices\": []"), 2, 20, "tenants.a.allow_host_devices",
	 "unknown key, expected one of \"limits\", \"reservations\", \"devices\", \"formats\", "
	 "\"kinds\", \"pasid_policy\", \"delegate\""},

	/* ---- limits and reservations ---- */
	{TENANT("\"limits\": 5"), 2, 30, "tenants.a.limits", "expected an object, found a number"},
	{LIMIT("\"ioasid\": 5"), 2, 31, "tenants.a.limits.ioasid", "unknown resource"},
	{LIMIT("\"ioasids\": 5, \"vms\": 1, \"ioasids\": 6"), 2, 55, "tenants.a.limits.ioasids",
	 "this key is there twice, first at 2:31"},
	{LIMIT("\"ioasids\": \"5\""), 2, 42, "tenants.a.limits.ioasids",
	 "expected an unsigned integer or \"max\", found \"5\""},
	{LIMIT("\"ioasids\": \"MAX\""), 2, 42, "tenants.a.limits.ioasids",
	 "expected an unsigned integer or \"max\", found \"MAX\""},
	{LIMIT("\"ioasids\": true"), 2, 42, "tenants.a.limits.ioasids",
	 "expected an unsigned integer or \"max\", found a boolean"},
	{LIMIT("\"ioasids\": {}"), 2, 42, "tenants.a.limits.ioasids",
	 "expected an unsigned integer or \"max\", found an object"},
	{LIMIT("\"ioasids\": -0"), 2, 42, "tenants.a.limits.ioasids",
	 "expected an unsigned integer or \"max\", found a negative number"},
	{LIMIT("\"ioasids\": 1e3"), 2, 42, "tenants.a.limits.ioasids",
	 "expected an unsigned integer or \"max\", found a number with a fraction or an "
	 "exponent"},
	{LIMIT("\"ioasids\": 18446744073709551615"), 2, 42, "tenants.a.limits.ioasids",
	 "expected at most 18446744073709551614, found a larger number"},
	{LIMIT("\"ioasids\": 99999999999999999999999999999999999999999999999999"), 2, 42,
	 "tenants.a.limits.ioasids",
	 "expected at most 18446744073709551614, found a larger number"},
	{LIMIT("\"mapped_bytes\": \"4P\""), 2, 47, "tenants.a.limits.mapped_bytes",
	 "expected a number of bytes (an unsigned integer, a string like \"4G\", or \"max\") with "
	 "K, M, G or T, found \"4P\""},
	{LIMIT("\"mapped_bytes\": \"G\""), 2, 47, "tenants.a.limits.mapped_bytes",
	 "expected a number of bytes (an unsigned integer, a string like \"4G\", or \"max\") with "
	 "K, M, G or T, found \"G\""},
	{LIMIT("\"mapped_bytes\": \"-1G\""), 2, 47, "tenants.a.limits.mapped_bytes",
	 "expected a number of bytes (an unsigned integer, a string like \"4G\", or \"max\") with "
	 "K, M, G or T, found \"-1G\""},
	{LIMIT("\"mapped_bytes\": \"16777216T\""), 2, 47, "tenants.a.limits.mapped_bytes",
	 "\"16777216T\" is more than 64 bits hold"},
	{LIMIT("\"mapped_bytes\": \"99999999999999999999\""), 2, 47,
	 "tenants.a.limits.mapped_bytes", "\"99999999999999999999\" is more than 64 bits hold"},
	{LIMIT("\"mapped_bytes\": []"), 2, 47, "tenants.a.limits.mapped_bytes",
	 "expected a number of bytes (an unsigned integer, a string like \"4G\", or \"max\"), "
	 "found an array"},
	{TENANT("\"reservations\": {\"nesting_depth\": 1}"), 2, 37,
	 "tenants.a.reservations.nesting_depth",
	 "only what is counted can be reserved; this is a ceiling or a rate"},
	{TENANT("\"reservations\": {\"calls_per_second\": 1}"), 2, 37,
	 "tenants.a.reservations.calls_per_second",
	 "only what is counted can be reserved; this is a ceiling or a rate"},
	{TENANT("\"reservations\": {\"vms\": \"max\"}"), 2, 44, "tenants.a.reservations.vms",
	 "expected an unsigned integer, found \"max\""},
	{TENANT("\"limits\": {\"vms\": 3}, \"reservations\": {\"vms\": 4}"), 2, 59,
	 "tenants.a.reservations.vms", "4 reserved, but its own limit is 3"},
	{TENANT("\"reservations\": {\"vms\": 4097}"), 2, 37, "tenants.a.reservations.vms",
	 "4097 of vms reserved here and 0 reserved by its siblings are more than the limit of "
	 "\"host\", 4096 (built-in default)"},
	{"{\"version\": 1, \"tenants\": {\n"
	 "\"a\": {\"limits\": {\"vms\": 9}},\n"
	 "\"a/x\": {\"reservations\": {\"vms\": 5}},\n"
	 "\"a/y\": {\"reservations\": {\"vms\": 5}}}}",
	 3, 26, "tenants.a/x.reservations.vms",
	 "5 of vms reserved here and 5 reserved by its siblings are more than the limit of \"a\", "
	 "9 (test.json:2)"},
	/* b reserves nothing itself: what its children reserve is what does not fit. */
	{"{\"version\": 1, \"host\": {\"limits\": {\"vms\": 9}}, \"tenants\": {\n"
	 "\"b\": {},\n"
	 "\"b/x\": {\"reservations\": {\"vms\": 5}},\n"
	 "\"b/y\": {\"reservations\": {\"vms\": 5}}}}",
	 2, 1, "tenants.b",
	 "10 of vms reserved here and 0 reserved by its siblings are more than the limit of "
	 "\"host\", 9 (test.json:1)"},
	{"{\"version\": 1, \"host\": {\"limits\": {\"mapped_bytes\": \"max\"}}, \"tenants\": {\n"
	 "\"a\": {\"reservations\": {\"mapped_bytes\": 18446744073709551614}},\n"
	 "\"b\": {\"reservations\": {\"mapped_bytes\": 2}}}}",
	 2, 24, "tenants.a.reservations.mapped_bytes",
	 "18446744073709551614 of mapped_bytes reserved here and 2 reserved by its siblings are "
	 "more than the limit of \"host\", 18446744073709551615 (test.json:1)"},

	/* ---- devices, formats, kinds ---- */
	{TENANT("\"devices\": {\"any\": true}"), 2, 31, "tenants.a.devices",
	 "expected an array, found an object"},
	{TENANT("\"devices\": [\"any\"]"), 2, 32, "tenants.a.devices[0]",
	 "expected an object, found a string"},
	{TENANT("\"devices\": [{}]"), 2, 32, "tenants.a.devices[0]",
	 "expected exactly one of \"address\", \"group\", \"vendor_device\", \"class\", \"any\", "
	 "found 0 keys"},
	{TENANT("\"devices\": [{\"any\": true, \"group\": 1}]"), 2, 32, "tenants.a.devices[0]",
	 "expected exactly one of \"address\", \"group\", \"vendor_device\", \"class\", \"any\", "
	 "found 2 keys"},
	{TENANT("\"devices\": [{\"any\": true},\n{\"driver\": \"x\"}]"), 3, 2,
	 "tenants.a.devices[1].driver",
	 "unknown key, expected one of \"address\", \"group\", \"vendor_device\", \"class\", "
	 "\"any\""},
	{TENANT("\"devices\": [{\"any\": false}]"), 2, 40, "tenants.a.devices[0].any",
	 "expected true, found false"},
	{TENANT("\"devices\": [{\"any\": 1}]"), 2, 40, "tenants.a.devices[0].any",
	 "expected true, found a number"},
	{TENANT("\"devices\": [{\"address\": \"3b:00.0\"}]"), 2, 44, "tenants.a.devices[0].address",
	 "expected a device address like \"0000:3b:00.0\", found \"3b:00.0\""},
	{TENANT("\"devices\": [{\"address\": \"0000:3b:20.0\"}]"), 2, 44,
	 "tenants.a.devices[0].address",
	 "expected a device address like \"0000:3b:00.0\", found \"0000:3b:20.0\""},
	{TENANT("\"devices\": [{\"address\": \"0000:3b:00.8\"}]"), 2, 44,
	 "tenants.a.devices[0].address",
	 "expected a device address like \"0000:3b:00.0\", found \"0000:3b:00.8\""},
	{TENANT("\"devices\": [{\"address\": 7}]"), 2, 44, "tenants.a.devices[0].address",
	 "expected a device address like \"0000:3b:00.0\", found a number"},
	{TENANT("\"devices\": [{\"group\": \"7\"}]"), 2, 42, "tenants.a.devices[0].group",
	 "expected the number of an IOMMU group, found a string"},
	{TENANT("\"devices\": [{\"group\": 4294967296}]"), 2, 42, "tenants.a.devices[0].group",
	 "expected at most 4294967295, found a larger number"},
	{TENANT("\"devices\": [{\"vendor_device\": \"8086\"}]"), 2, 50,
	 "tenants.a.devices[0].vendor_device",
	 "expected vendor and device in hexadecimal like \"8086:10fb\" or \"8086:*\", found "
	 "\"8086\""},
	{TENANT("\"devices\": [{\"vendor_device\": \"8086:10fbx\"}]"), 2, 50,
	 "tenants.a.devices[0].vendor_device",
	 "expected vendor and device in hexadecimal like \"8086:10fb\" or \"8086:*\", found "
	 "\"8086:10fbx\""},
	{TENANT("\"devices\": [{\"class\": \"020\"}]"), 2, 42, "tenants.a.devices[0].class",
	 "expected 2, 4 or 6 hexadecimal digits of a PCI class like \"0200\", found \"020\""},
	{TENANT("\"devices\": [{\"class\": \"02zz\"}]"), 2, 42, "tenants.a.devices[0].class",
	 "expected 2, 4 or 6 hexadecimal digits of a PCI class like \"0200\", found \"02zz\""},
	{TENANT("\"formats\": \"fmt-a\""), 2, 31, "tenants.a.formats",
	 "expected an array, found a string"},
	{TENANT("\"formats\": [\"fmt-a\", \"fmt-x\"]"), 2, 41, "tenants.a.formats[1]",
	 "expected the name of a page-table format, found \"fmt-x\"; known are: fmt-a, fmt-b, "
	 "fmt-d"},
	{TENANT("\"formats\": [\"fmt-a\", \"fmt-a\"]"), 2, 41, "tenants.a.formats[1]",
	 "\"fmt-a\" is there twice"},
	{TENANT("\"kinds\": [\"kernel\", null]"), 2, 40, "tenants.a.kinds[1]",
	 "expected the name of a kind of IOASID, found null"},
	{TENANT("\"kinds\": [\"Kernel\"]"), 2, 30, "tenants.a.kinds[0]",
	 "expected the name of a kind of IOASID, found \"Kernel\"; known are: kernel, user"},
	{TENANT("\"pasid_policy\": \"identities\""), 2, 36, "tenants.a.pasid_policy",
	 "expected \"identity\", \"translated\" or \"none\", found \"identities\""},
	{TENANT("\"pasid_policy\": 1"), 2, 36, "tenants.a.pasid_policy",
	 "expected \"identity\", \"translated\" or \"none\", found a number"},

	{TENANT("\"delegate\": \"true\""), 2, 32, "tenants.a.delegate",
	 "expected true or false, found a string"},
	{TENANT("\"delegate\": null"), 2, 32, "tenants.a.delegate",
	 "expected true or false, found null"},

	/* ---- the host ---- */
	{HOST("\"reservations\": {}"), 2, 11, "host.reservations",
	 "unknown key, expected one of \"limits\", \"devices\", \"formats\", \"kinds\", "
	 "\"pasid_policy\", \"delegate\", \"allow_host_devices\""},
	{HOST("\"allow_host_devices\": [\"0000:3b:00.0\", 5]"), 2, 50, "host.allow_host_devices[1]",
	 "expected a device address like \"0000:3b:00.0\", found a number"},
	{HOST("\"allow_host_devices\": [\"eth0\"]"), 2, 34, "host.allow_host_devices[0]",
	 "expected a device address like \"0000:3b:00.0\", found \"eth0\""},
	{HOST("\"limits\": {\"bytes\": 1}"), 2, 22, "host.limits.bytes", "unknown resource"},

	/* ---- identities ---- */
	{IDENTITIES("5"), 3, 17, "identities[0]", "expected an object, found a number"},
	{IDENTITIES("{}"), 3, 17, "identities[0]", "the key \"socket\" is missing"},
	{IDENTITIES("{\"socket\": \"t\"}"), 3, 17, "identities[0]", "the key \"role\" is missing"},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"root\"}"), 3, 41, "identities[0].role",
	 "expected \"tenant\", \"agent\", \"observer\" or \"admin\", found \"root\""},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"none\"}"), 3, 41, "identities[0].role",
	 "expected \"tenant\", \"agent\", \"observer\" or \"admin\", found \"none\""},
	{IDENTITIES("{\"socket\": \"\", \"role\": \"observer\"}"), 3, 28, "identities[0].socket",
	 "not a good name of a socket: it is empty"},
	{IDENTITIES("{\"socket\": \"" C64 "\", \"role\": \"observer\"}"), 3, 28,
	 "identities[0].socket", "not a good name of a socket: it is longer than 63 bytes"},
	{IDENTITIES(
		 "{\"socket\": \"t\", \"subtree\": \"a\", \"tenant\": \"a\", \"role\": \"agent\"}"),
	 3, 49, "identities[0].tenant", "\"tenant\" and \"subtree\" exclude each other"},
	{IDENTITIES("{\"socket\": \"a/b\", \"role\": \"observer\"}"), 3, 28, "identities[0].socket",
	 "not a good name of a socket: only A-Z a-z 0-9 - _ . are allowed"},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"tenant\"}"), 3, 17, "identities[0]",
	 "role \"tenant\" needs the key \"tenant\""},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"tenant\", \"subtree\": \"a\"}"), 3, 17,
	 "identities[0]", "role \"tenant\" needs the key \"tenant\""},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"agent\"}"), 3, 17, "identities[0]",
	 "role \"agent\" needs the key \"subtree\""},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"observer\", \"tenant\": \"a\"}"), 3, 17,
	 "identities[0]", "role \"observer\" takes \"subtree\", not \"tenant\""},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"agent\", \"tenant\": \"a\", \"subtree\": "
		    "\"a\"}"),
	 3, 65, "identities[0].subtree", "\"tenant\" and \"subtree\" exclude each other"},
	{IDENTITIES("{\"socket\": \"tenants\", \"role\": \"admin\"}"), 3, 17, "identities[0]",
	 "role \"admin\" is for the socket \"admin\" only"},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"tenant\", \"tenant\": \"\"}"), 3, 61,
	 "identities[0].tenant", "not a good tenant path: it is empty"},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"tenant\",\n\"tenant\": \"b\"}"), 4, 1,
	 "identities[0].tenant", "no tenant \"b\" is defined"},
	{IDENTITIES("{\"socket\": \"t\", \"role\": \"agent\",\n\"subtree\": \"a/b\"}"), 4, 1,
	 "identities[0].subtree", "no tenant \"a/b\" is defined"},
	{IDENTITIES("{\"socket\": \"t\", \"uid\": 4294967295, \"role\": \"observer\"}"), 3, 40,
	 "identities[0].uid", "expected at most 4294967294, found a larger number"},
	{IDENTITIES("{\"socket\": \"t\", \"uid\": \"root\", \"role\": \"observer\"}"), 3, 40,
	 "identities[0].uid", "expected a user id (a number), found a string"},
	{IDENTITIES("{\"socket\": \"t\", \"gid\": -1, \"role\": \"observer\"}"), 3, 40,
	 "identities[0].gid", "expected a group id (a number), found a negative number"},
	{IDENTITIES("{\"socket\": \"t\", \"uid\": 7, \"role\": \"observer\"},\n"
		    "{\"socket\": \"u\", \"uid\": 7, \"role\": \"observer\"},\n"
		    "{\"socket\": \"t\", \"uid\": 7, \"role\": \"agent\", \"subtree\": \"\"}"),
	 5, 1, "identities[2]",
	 "as specific as identities[0] at test.json:3:17: same socket, uid and gid"},
	{IDENTITIES("{\"socket\": \"admin\", \"role\": \"observer\"},\n"
		    "{\"socket\": \"admin\", \"role\": \"admin\"}"),
	 4, 1, "identities[1]",
	 "as specific as identities[0] at test.json:3:17: same socket, uid and gid"},
};

#define N_BAD_POLICIES (sizeof(bad_policies) / sizeof(bad_policies[0]))

#endif
