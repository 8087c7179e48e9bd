# SPDX-License-Identifier: Apache-2.0
"""Registered memory, and the tickets that carry its fd."""
import struct

from support import fdpass, policy
from support.case import MIB, PAGE, Case
from support.fdpass import BUSY, GIVE, MALFORMED, OK, REFUSED, TAKE, UNSUITABLE, request

POLICY = policy.default()


class Register(Case):
    def test_register_and_unregister(self):
        memory = self.memory(self.a, pages=16, label="ring")
        self.assertEqual(memory.length, 16 * PAGE)
        (listed,) = self.a.ListMemory().memory
        self.assertEqual((listed.memory, listed.length, listed.read, listed.write, listed.label,
                          listed.mappings, listed.page_size),
                         (memory.id, 16 * PAGE, True, True, "ring", 0, PAGE))
        self.assertEqual(self.used("org/a", "registered_bytes", "kept_fds"), [16 * PAGE, 1])
        self.assertFalse(self.a.UnregisterMemory(memory=memory.id).pending)
        self.assertEqual(self.used("org/a", "registered_bytes", "kept_fds"), [0, 0])
        self.refused("NOT_FOUND", self.a.UnregisterMemory, memory=memory.id)
        self.assertEqual(len(self.a.ListMemory().memory), 0)

    def test_part_of_a_memfd(self):
        for offset, length, got in ((0, 4 * PAGE, 4 * PAGE), (4 * PAGE, 0, 12 * PAGE),
                                    (15 * PAGE, PAGE, PAGE), (0, 16 * PAGE, 16 * PAGE)):
            with self.subTest(offset=offset, length=length):
                memory = self.memory(self.a, offset=offset, length=length)
                self.assertEqual(memory.length, got)
                self.a.UnregisterMemory(memory=memory.id)

    def test_bad_ranges_are_refused_by_name(self):
        top = 2 ** 64
        for offset, length, field in (
                (1, 0, "offset"), (PAGE - 1, PAGE, "offset"), (0, 1, "length"),
                (0, PAGE + 1, "length"), (0, 17 * PAGE, "length"), (16 * PAGE, 0, "offset"),
                (17 * PAGE, 0, "offset"), (15 * PAGE, 2 * PAGE, "length"),
                (top - PAGE, 2 * PAGE, None), (PAGE, top - PAGE, None), (0, top - PAGE, None),
                (top - PAGE, 0, None)):
            with self.subTest(offset=offset, length=length):
                refusal = self.refused_range(offset=offset, length=length)
                if field:
                    self.assertIn(refusal.fields[0][0], ("offset", "length"))
        self.assertEqual(self.used("org/a", "registered_bytes"), 0)

    def refused_range(self, **fields):
        fd = self.a.actor.memfd(size=16 * PAGE)
        ticket = self.given(self.a, fd)
        return self.refused("INVALID_FIELD", self.a.RegisterMemory, ticket=ticket, read=True,
                            **fields)

    def register(self, expect, read=True, write=True, **memfd):
        memfd.setdefault("size", 16 * PAGE)
        fd = self.a.actor.memfd(**memfd)
        ticket = self.given(self.a, fd)
        self.a.actor.drop_fd(fd)
        if expect is None:
            return self.a.RegisterMemory(ticket=ticket, read=read, write=write)
        return self.refused(expect, self.a.RegisterMemory, ticket=ticket, read=read, write=write)

    def test_memfd_that_could_shrink_is_refused(self):
        self.register("MEMORY_UNSUITABLE", seals=0)
        self.register("MEMORY_UNSUITABLE", seals=fdpass.SEAL_GROW)
        self.assertIn("SHRINK", self.register("MEMORY_UNSUITABLE", seals=0).text())

    def test_access_mode_and_write_seal_bound_what_devices_may_do(self):
        shrink, sealed = fdpass.SEAL_SHRINK, fdpass.SEAL_SHRINK | fdpass.SEAL_WRITE
        for expect, read, write, memfd in (
                (None, True, False, dict(read_only=True)),
                ("MEMORY_UNSUITABLE", True, True, dict(read_only=True)),
                ("MEMORY_UNSUITABLE", False, True, dict(read_only=True)),
                (None, True, False, dict(seals=sealed)),
                ("MEMORY_UNSUITABLE", True, True, dict(seals=sealed)),
                ("MEMORY_UNSUITABLE", True, True,
                 dict(seals=shrink | fdpass.SEAL_FUTURE_WRITE)),
                (None, True, True, dict(seals=shrink | fdpass.SEAL_SEAL)),
                (None, True, True, dict(seals=shrink | fdpass.SEAL_GROW))):
            with self.subTest(read=read, write=write, memfd=memfd):
                self.register(expect, read, write, **memfd)
        self.assertEqual(len(self.a.ListMemory().memory), 4)

    def test_no_access_at_all_is_refused(self):
        self.register("INVALID_FIELD", read=False, write=False)

    def test_holes_are_refused(self):
        for holes in ([(0, PAGE)], [(15 * PAGE, PAGE)], [(4 * PAGE, 8 * PAGE)],
                      [(0, 16 * PAGE)]):
            with self.subTest(holes=holes):
                self.assertIn("hole", self.register("MEMORY_UNSUITABLE", holes=holes).text())

    def test_hole_outside_of_the_range_does_not_matter(self):
        fd = self.a.actor.memfd(size=16 * PAGE, holes=[(8 * PAGE, PAGE)])
        self.a.RegisterMemory(ticket=self.given(self.a, fd), read=True, length=8 * PAGE)
        self.refused("MEMORY_UNSUITABLE", self.a.RegisterMemory, ticket=self.given(self.a, fd),
                     read=True, offset=8 * PAGE)

    def test_empty_memfd_is_refused(self):
        refusal = self.a.attempt("RegisterMemory", read=True,
                                 ticket=self.given(self.a, self.a.actor.memfd(size=0)))
        self.assertIn(refusal.reason, ("MEMORY_UNSUITABLE", "INVALID_FIELD"))

    def test_unregister_is_pending_while_mapped(self):
        ioasid, memory = self.alloc(self.a), self.memory(self.a)
        self.map(self.a, ioasid, self.entry(0x10100000, memory, 4),
                 self.entry(0x10200000, memory, 4))
        self.assertEqual(self.a.ListMemory().memory[0].mappings, 2)
        self.assertTrue(self.a.UnregisterMemory(memory=memory.id).pending)
        # Invisible at once ...
        self.assertEqual(len(self.a.ListMemory().memory), 0)
        self.refused("NOT_FOUND", self.a.UnregisterMemory, memory=memory.id)
        self.refused("NOT_FOUND", self.a.Map, ioasid=ioasid,
                     entries=[self.entry(0x10300000, memory)])
        # ... charged until the last Unmap.
        self.a.Unmap(ioasid=ioasid, ranges=[{"iova": 0x10100000, "length": 4 * PAGE}])
        self.assertEqual(self.used("org/a", "registered_bytes", "kept_fds"), [16 * PAGE, 1])
        self.a.Unmap(ioasid=ioasid, all=True)
        self.assertEqual(self.used("org/a", "registered_bytes", "kept_fds"), [0, 0])

    def test_pages_are_charged_once_however_often_registered(self):
        fd = self.a.actor.memfd(size=16 * PAGE)

        def register(offset, length):
            return self.a.RegisterMemory(ticket=self.given(self.a, fd), read=True,
                                         offset=offset, length=length).memory
        one = register(0, 8 * PAGE)
        self.assertEqual(self.used("org/a", "registered_bytes"), 8 * PAGE)
        two = register(4 * PAGE, 8 * PAGE)
        self.assertEqual(self.used("org/a", "registered_bytes"), 12 * PAGE)
        three = register(0, 16 * PAGE)
        self.assertEqual(self.used("org/a", "registered_bytes"), 16 * PAGE)
        for memory, left in ((three, 12), (one, 8), (two, 0)):
            self.a.UnregisterMemory(memory=memory)
            self.assertEqual(self.used("org/a", "registered_bytes"), left * PAGE)

    def test_pages_are_charged_once_over_the_leases_of_a_tenant(self):
        fd = self.a.actor.memfd(size=4 * PAGE)
        self.a.OpenLease(name="second")
        for lease in ("", "second"):
            self.a.RegisterMemory(ticket=self.given(self.a, fd, lease=lease), read=True,
                                  lease=lease)
        self.assertEqual(self.used("org/a", "registered_bytes"), 4 * PAGE)
        self.a.CloseLease(lease="second")
        self.assertEqual(self.used("org/a", "registered_bytes"), 4 * PAGE)

    def test_label_and_bad_text(self):
        self.memory(self.a, label="x" * 64)
        ticket = self.given(self.a, self.a.actor.memfd(size=PAGE))
        self.refused("INVALID_FIELD", self.a.RegisterMemory, ticket=ticket, read=True,
                     label="x" * 65, field="label")

    def test_listing_pages(self):
        ids = [self.memory(self.a, pages=1).id for _ in range(5)]
        seen, token = [], ""
        while True:
            page = self.a.ListMemory(page_size=2, page_token=token)
            seen += [m.memory for m in page.memory]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(sorted(seen), sorted(ids))

    def test_big_memory_byte_for_byte(self):
        device = self.device(self.a)
        ioasid = self.alloc(self.a, [device])
        memory = self.memory(self.a, pages=4 * MIB // PAGE)
        self.map(self.a, ioasid, self.entry(0x10400000, memory, 4 * MIB // PAGE))
        self.a.Attach(device=device, ioasid=ioasid)
        memory.write(b"last byte", 4 * MIB - 9)
        self.assertReads(self.a, device, 0x10800000 - 9, b"last byte")


class Tickets(Case):
    def path(self):
        return self.a.path

    def exchange(self, message, fds=(), actor=None, path=None):
        return (actor or self.a.actor).exchange(path or self.path(), message, list(fds))[0]

    def fd(self, conn=None):
        return (conn or self.a).actor.memfd(size=PAGE)

    def register(self, ticket, conn=None, **scope):
        return (conn or self.a).RegisterMemory(ticket=ticket, read=True, **scope)

    def test_ticket_is_random_and_lives_for_a_stated_time(self):
        first = self.a.OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY)
        second = self.a.OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY)
        self.assertEqual((len(first.ticket), len(second.ticket)), (16, 16))
        self.assertNotEqual(first.ticket, second.ticket)
        self.assertLessEqual(first.lifetime_ms, 10000)
        self.assertGreater(first.lifetime_ms, 0)

    def test_ticket_is_good_once(self):
        ticket = self.given(self.a, self.fd())
        self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()]), REFUSED)
        self.register(ticket)
        self.refused("TICKET_REFUSED", self.register, ticket=ticket)
        self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()]), REFUSED)

    def test_ticket_without_its_fd_registers_nothing(self):
        ticket = self.ticket(self.a)
        self.refused("TICKET_REFUSED", self.register, ticket=ticket)

    def test_unknown_ticket(self):
        for ticket in (b"\0" * 16, b"x" * 16):
            self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()]), REFUSED)
            self.assertEqual(self.exchange(request(TAKE, ticket)), REFUSED)
            self.refused("TICKET_REFUSED", self.register, ticket=ticket)

    def test_ticket_of_a_wrong_length(self):
        for ticket in (b"", b"x" * 15, b"x" * 17, b"x" * 4096):
            with self.subTest(n=len(ticket)):
                refusal = self.a.attempt("RegisterMemory", ticket=ticket, read=True)
                self.assertIn(refusal.reason, ("TICKET_REFUSED", "INVALID_FIELD"))
                self.check_refusal(refusal, refusal.reason)

    def test_expired_ticket(self):
        unused = self.a.OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY)
        given = self.given(self.a, self.fd())
        self.assertEqual(self.used("org/a", "kept_fds"), 1)
        import time
        time.sleep(unused.lifetime_ms / 1000 + 0.3)
        self.assertEqual(self.exchange(request(GIVE, unused.ticket), [self.fd()]), REFUSED)
        self.refused("TICKET_REFUSED", self.register, ticket=given)
        # The fd that waited in it is closed and no longer charged.
        self.assertEqual(self.used("org/a", "kept_fds"), 0)

    def test_another_uid_cannot_give(self):
        ticket = self.ticket(self.a)
        self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd(self.b)],
                                       actor=self.b.actor), REFUSED)
        # The try did not use it up.
        self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()]), OK)

    def test_another_socket_is_another_principal(self):
        ticket = self.ticket(self.a)
        self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()],
                                       path=self.world.server.socket("agents")), REFUSED)

    def test_another_process_of_the_uid_may_give(self):
        ticket = self.ticket(self.a)
        helper = self.fresh_actor(policy.A)
        self.assertEqual(self.exchange(request(GIVE, ticket), [helper.memfd(size=PAGE)],
                                       actor=helper), OK)
        self.register(ticket)

    def test_another_tenant_cannot_use_a_given_ticket(self):
        ticket = self.given(self.a, self.fd())
        self.refused("TICKET_REFUSED", self.register, ticket=ticket, conn=self.b)
        self.register(ticket)

    def test_another_lease_cannot_use_it(self):
        self.a.OpenLease(name="second")
        first, second = self.given(self.a, self.fd()), self.given(self.a, self.fd(),
                                                                  lease="second")
        self.refused("TICKET_REFUSED", self.register, ticket=first, lease="second")
        self.refused("TICKET_REFUSED", self.register, ticket=second)
        # Another connection of the same uid has another connection lease.
        self.refused("TICKET_REFUSED", self.register, ticket=first, conn=self.connect())
        self.register(first)
        self.register(second, lease="second")
        self.a.CloseLease(lease="second")

    def test_ticket_goes_with_its_lease(self):
        self.a.OpenLease(name="second")
        ticket = self.ticket(self.a, lease="second")
        given = self.given(self.a, self.fd(), lease="second")
        self.a.CloseLease(lease="second")
        self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()]), REFUSED)
        self.refused("TICKET_REFUSED", self.register, ticket=given)
        self.assertEqual(self.used("org/a", "kept_fds"), 0)

    def test_wrong_purpose(self):
        process = self.ticket(self.a, self.pb.TICKET_PURPOSE_PROCESS)
        self.assertEqual(self.exchange(request(GIVE, process), [self.a.actor.pidfd()]), OK)
        self.refused("TICKET_REFUSED", self.register, ticket=process)
        self.refused("INVALID_FIELD", self.a.OpenTicket, purpose=0, field="purpose")
        self.refused("INVALID_FIELD", self.a.OpenTicket, purpose=77, field="purpose")

    def test_wrong_direction(self):
        ticket = self.ticket(self.a)
        self.assertEqual(self.exchange(request(TAKE, ticket)), REFUSED)

    def test_fd_of_a_wrong_kind_uses_the_ticket_up(self):
        for fd in (self.a.actor.open_file("/dev/null"), self.a.actor.open_file("/etc/passwd"),
                   self.a.actor.pidfd()):
            ticket = self.ticket(self.a)
            self.assertEqual(self.exchange(request(GIVE, ticket), [fd]), UNSUITABLE)
            self.assertEqual(self.exchange(request(GIVE, ticket), [self.fd()]), REFUSED)
        process = self.ticket(self.a, self.pb.TICKET_PURPOSE_PROCESS)
        self.assertEqual(self.exchange(request(GIVE, process), [self.fd()]), UNSUITABLE)

    def test_malformed_requests(self):
        ticket = self.ticket(self.a)
        fd = self.fd()
        for name, message, fds in (
                ("version", request(GIVE, ticket, version=2), [fd]),
                ("version 0", request(GIVE, ticket, version=0), [fd]),
                ("op 0", request(0, ticket), [fd]),
                ("op 3", request(3, ticket), [fd]),
                ("flags", request(GIVE, ticket, flags=1), [fd]),
                ("reserved", request(GIVE, ticket, reserved=1), [fd]),
                ("no fd", request(GIVE, ticket), []),
                ("two fds", request(GIVE, ticket), [fd, fd]),
                ("fd with TAKE", request(TAKE, ticket), [fd])):
            with self.subTest(name):
                self.assertEqual(self.exchange(message, fds), MALFORMED)
        # None of it used the ticket up, and no fd stayed.
        self.assertEqual(self.exchange(request(GIVE, ticket), [fd]), OK)
        self.register(ticket)

    def test_no_answer_to_another_protocol(self):
        for first in (b"GET ", b"IOFX", b"\0\0\0\0", b"iofd"):
            raw = self.a.actor.raw(self.path())
            self.a.actor.raw_send(raw, first + b"\0" * 60)
            self.assertTrue(self.a.actor.raw_closed(raw, 5 * self.slow))

    def test_many_fds_in_one_message_are_closed(self):
        before = self.world.server.open_fds()
        fd = self.fd()
        for _ in range(8):
            self.assertEqual(self.exchange(request(GIVE, self.ticket(self.a)), [fd] * 100),
                             MALFORMED)
        self.assertLessEqual(self.world.server.open_fds(), before + 4)

    def test_open_tickets_are_bounded(self):
        for _ in range(16):
            self.ticket(self.a)
        refusal = self.a.attempt("OpenTicket", purpose=self.pb.TICKET_PURPOSE_MEMORY)
        self.assertIn(refusal.reason, ("QUOTA", "WRONG_STATE"))
        self.check_refusal(refusal, refusal.reason)
        self.connect().OpenTicket(purpose=self.pb.TICKET_PURPOSE_MEMORY)

    def test_fds_waiting_in_tickets_are_charged(self):
        self.limited("org/a", kept_fds=2)
        tickets = [self.given(self.a, self.fd()) for _ in range(2)]
        third = self.ticket(self.a)
        self.assertEqual(self.exchange(request(GIVE, third), [self.fd()]), BUSY)
        memory = self.register(tickets[0]).memory
        self.assertEqual(self.exchange(request(GIVE, third), [self.fd()]), BUSY)
        self.a.UnregisterMemory(memory=memory)
        self.assertEqual(self.exchange(request(GIVE, third), [self.fd()]), OK)

    def test_refused_registration_keeps_nothing(self):
        # Whether the ticket may be tried again is not promised; that no fd stays is.
        ticket = self.given(self.a, self.fd())
        self.refused("INVALID_FIELD", self.a.RegisterMemory, ticket=ticket, read=True, offset=1)
        again = self.a.attempt("RegisterMemory", ticket=ticket, read=True)
        if hasattr(again, "memory"):
            self.a.UnregisterMemory(memory=again.memory)
        else:
            self.check_refusal(again, "TICKET_REFUSED")
        self.assertEqual(self.used("org/a", "kept_fds"), 0)

    def test_half_a_request_ends(self):
        whole = request(GIVE, self.ticket(self.a))
        self.assertEqual(struct.calcsize("<4sBBH16sQ"), len(whole))
        halves = []
        for cut in (1, 3, 4, 8, 31):
            raw = self.a.actor.raw(self.path())
            self.a.actor.raw_send(raw, whole[:cut])
            halves.append(raw)
        for raw in halves:
            self.assertTrue(self.a.actor.raw_closed(raw, 6 * self.slow),
                            "half a request was kept open")
