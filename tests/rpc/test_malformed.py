# SPDX-License-Identifier: Apache-2.0
"""Requests that are no requests: each is refused by name, changes nothing and harms nobody."""
import random

from google.protobuf.descriptor import FieldDescriptor

from support import policy
from support.case import PAGE, Case
from support.client import Refused

POLICY = policy.default()


def varint(n):
    out = b""
    while True:
        out += bytes([(n & 0x7f) | (0x80 if n > 0x7f else 0)])
        n >>= 7
        if not n:
            return out


def field(number, wire, payload):
    return varint(number << 3 | wire) + payload


def text(number, data):
    return field(number, 2, varint(len(data)) + data)


class Bytes(Case):
    def methods(self):
        """Methods that a tenant may call, unary."""
        return [m for m in self.world.api.methods.values()
                if m.service == "Broker" and "T" in m.roles and not m.streaming]

    def raw(self, method, data, conn=None):
        return (conn or self.a).send(method.service + "/" + method.name, data)

    def malformed(self, method, data):
        answer = self.raw(method, data)
        self.assertIsInstance(answer, Refused, "%s took %r" % (method.name, data[:40]))
        # What is not built may say so without a look at the request.
        if answer.reason != "UNIMPLEMENTED":
            self.check_refusal(answer, "MALFORMED")

    def test_not_a_message(self):
        for method in self.methods():
            if not method.fields:
                continue
            for name, data in (("random", b"\xff" * 20), ("a cut varint", b"\x08\x80"),
                               ("wire type 7", b"\x0f"), ("field 0", b"\x00\x01"),
                               ("a cut field", b"\x0a\x7f\x01"),
                               ("a group that does not end", b"\x0b"),
                               ("a length beyond the end", b"\x0a\xff\xff\xff\xff\x0f")):
                with self.subTest(method=method.name, what=name):
                    self.malformed(method, data)

    def test_every_truncation_of_a_good_request(self):
        method = self.world.api.method("Map")
        good = method.bytes(dict(ioasid=5, key="k", lease="", entries=[
            self.entry(0x10010000, 7), self.entry(0x10020000, 7)]))
        for cut in range(1, len(good)):
            answer = self.raw(method, good[:cut])
            self.assertIsInstance(answer, Refused)
            self.assertIn(answer.reason, ("MALFORMED", "INVALID_FIELD", "NOT_FOUND"))

    def strings_of(self, message):
        for f in message.DESCRIPTOR.fields:
            if f.type == FieldDescriptor.TYPE_STRING:
                yield f

    def test_text_that_is_not_utf8_or_holds_nul(self):
        tried = 0
        for method in self.methods():
            for f in self.strings_of(method.Request):
                for bad in (b"\xff\xfe", b"a\0b", b"\0", b"\xc3", b"\xed\xa0\x80",
                            b"\xc0\xaf", b"\xf4\x90\x80\x80"):
                    tried += 1
                    with self.subTest(method=method.name, field=f.name, bad=bad):
                        self.malformed(method, text(f.number, bad))
            for number in (1, 2, 3):  # in the Scope
                if "scope" in method.fields:
                    tried += 1
                    with self.subTest(method=method.name, scope=number):
                        self.malformed(method, text(1, text(number, b"a\0b")))
        self.assertGreater(tried, 100)

    def test_very_long_text_is_refused_with_details(self):
        """However much text a refusal could quote, its details fit into the trailers."""
        for method in self.methods():
            for f in self.strings_of(method.Request):
                for size in (300, 5000, 100000):
                    answer = self.raw(method, text(f.number, b"w" * size))
                    with self.subTest(method=method.name, field=f.name, size=size):
                        self.assertIsInstance(answer, Refused)
                        self.check_refusal(answer, answer.reason)
            for number in (1, 2, 3):
                if "scope" in method.fields:
                    answer = self.raw(method, text(1, text(number, b"w" * 100000)))
                    with self.subTest(method=method.name, scope=number):
                        self.assertIsInstance(answer, Refused)
                        self.check_refusal(answer, answer.reason)

    def test_text_in_repeated_and_nested_messages(self):
        entry = text(3, field(1, 0, varint(4)) + text(6, b"\xff"))
        self.malformed(self.world.api.method("Invalidate"), entry)
        self.malformed(self.world.api.method("ClaimDevice"), text(2, b"ok") + text(2, b"\xff"))
        self.malformed(self.world.api.method("Negotiate"), text(1, text(13, b"a\0")))

    def test_arrays_that_are_too_long(self):
        for name, fields in (
                ("Map", dict(ioasid=1, entries=[{}] * 20000)),
                ("Unmap", dict(ioasid=1, ranges=[{}] * 20000)),
                ("ClaimDevice", dict(devices=["x"] * 20000)),
                ("Alloc", dict(kind=1, devices=["x"] * 20000)),
                ("Alloc", dict(kind=1, candidates=[{}] * 20000)),
                ("Invalidate", dict(ioasid=1, entries=[{}] * 20000)),
                ("ExplainQuota", dict(amounts=[{}] * 20000))):
            with self.subTest(name):
                answer = self.a.attempt(name, **fields)
                self.assertIsInstance(answer, Refused)
                self.assertIn(answer.reason, ("MALFORMED", "INVALID_FIELD"))
                self.check_refusal(answer, answer.reason)

    def test_amplification_is_bounded(self):
        """4 MB of empty sub-messages would be two million allocations."""
        before = self.world.server.rss_kib()
        for name, number in (("Map", 3), ("Unmap", 3), ("Invalidate", 3)):
            answer = self.raw(self.world.api.method(name), text(number, b"") * 2000000)
            self.assertIsInstance(answer, Refused)
            self.assertIn(answer.code, ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))
        if self.slow == 1:
            self.assertLess(self.world.server.rss_kib() - before, 100 * 1024)

    def test_message_size(self):
        method = self.world.api.method("DeviceDma")
        answer = self.raw(method, text(7, b"x" * ((4 << 20) + 1)))
        self.assertIn(answer.code, ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"))
        answer = self.raw(method, text(7, b"x" * (64 << 20)))
        self.assertIn(answer.code, ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNAVAILABLE",
                                    "CANCELLED"))
        self.connect().GetStatus()

    def test_unknown_fields_are_refused(self):
        """Who asks for what this server does not know must not get something else."""
        good = self.world.api.method("Alloc").bytes(dict(kind=1))
        for name, data in (("at the top", good + text(1000, b"new")),
                           ("a number", good + field(1001, 0, b"\x01")),
                           ("in the scope", text(1, text(9, b"x")) + good),
                           ("in an element", text(5, field(2, 0, b"\x01")) + good)):
            with self.subTest(name):
                self.malformed(self.world.api.method("Alloc"), data)
        self.assertEqual(self.used("org/a", "ioasids"), 0)

    def test_deep_nesting_of_unknown_fields(self):
        nested = b""
        while len(nested) < 60000:
            nested = text(999, nested)
        for name in ("GetStatus", "Alloc", "Negotiate"):
            self.malformed(self.world.api.method(name), nested)

    def test_repeated_scalar_fields_take_the_last(self):
        ioasid = self.alloc(self.a)
        data = field(2, 0, varint(99999)) + field(2, 0, varint(ioasid))
        self.assertEqual(self.raw(self.world.api.method("GetIoasid"), data).ioasid.ioasid, ioasid)

    def test_ids_of_zero_name_their_field(self):
        pb = self.pb
        device = self.device(self.a)
        for name, fields, wanted in (
                ("Free", {}, "ioasid"), ("GetIoasid", {}, "ioasid"),
                ("Translate", dict(access=pb.ACCESS_READ), "ioasid"),
                ("Map", dict(entries=[self.entry(0x1000, 1)]), "ioasid"),
                ("Unmap", dict(all=True), "ioasid"), ("ListMappings", {}, "ioasid"),
                ("Attach", dict(device=device), "ioasid"),
                ("Replace", dict(device=device), "ioasid"),
                ("Invalidate", dict(entries=[dict(granularity=1)]), "ioasid"),
                ("UnregisterMemory", {}, "memory"), ("Detach", {}, "device"),
                ("DeviceDma", dict(access=pb.ACCESS_READ, length=8), "device")
                if self.by_call else ("GetDeviceFd", {}, "device")):
            with self.subTest(name):
                self.check_refusal(self.a.attempt(name, **fields), "INVALID_FIELD", field=wanted)

    def test_pages_that_nobody_gave(self):
        for name, fields in (("ListIoasids", {}), ("ListMemory", {}), ("ListAttachments", {}),
                             ("ListLeases", {}), ("ListDevices", {})):
            for token in ("x", "\u00e9", "0x10", "-5", "1" * 40):
                with self.subTest(method=name, token=token[:6]):
                    self.check_refusal(self.a.attempt(name, page_token=token, **fields),
                                       "INVALID_FIELD", field="page_token")
            self.check_refusal(self.a.attempt(name, page_size=1025), "INVALID_FIELD",
                               field="page_size")

    def test_random_bytes_harm_nobody(self):
        rng = random.Random(1)
        methods = self.methods()
        outcomes = {}
        for _ in range(40):
            calls = []
            for _ in range(25):
                method = rng.choice(methods)
                data = bytearray(rng.randbytes(rng.randrange(60)))
                calls.append((method.service + "/" + method.name, bytes(data)))
            for answer in self.a.many(calls):
                outcomes[getattr(answer, "reason", "OK")] = outcomes.get(
                    getattr(answer, "reason", "OK"), 0) + 1
        self.assertNotIn("INTERNAL", outcomes)
        self.assertNotIn(None, outcomes)

    def test_mutations_of_good_requests_harm_nobody(self):
        rng = random.Random(2)
        device = self.device(self.a)
        ioasid, memory = self.alloc(self.a, [device]), self.memory(self.a)
        pb = self.pb
        good = [(n, self.world.api.method(n).bytes(f)) for n, f in (
            ("Map", dict(ioasid=ioasid, entries=[self.entry(0x10010000, memory, 2)])),
            ("Unmap", dict(ioasid=ioasid, ranges=[dict(iova=0x10010000, length=2 * PAGE)])),
            ("Alloc", dict(kind=1, devices=[device], parent=ioasid, label="x", candidates=[
                dict(format=1), dict(format=4)], input_bits=40)),
            ("Attach", dict(device=device, ioasid=ioasid, pasid=dict(value=3))),
            ("Detach", dict(device=device)),
            ("Invalidate", dict(ioasid=ioasid, entries=[dict(granularity=2, iova=0x10010000,
                                                             length=PAGE, device=device)])),
            ("DeviceDma", dict(device=device, access=pb.ACCESS_WRITE, iova=0x10010000,
                               data=b"data")),
            ("Translate", dict(ioasid=ioasid, iova=0x10010000, access=1)))]
        for _ in range(60):
            calls = []
            for _ in range(25):
                name, data = rng.choice(good)
                data = bytearray(data)
                for _ in range(rng.randrange(1, 4)):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                calls.append((name, bytes(data)))
            for answer in self.a.many(calls):
                self.assertNotIn(getattr(answer, "reason", "OK"), ("INTERNAL", None))
