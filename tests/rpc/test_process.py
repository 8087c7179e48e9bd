# SPDX-License-Identifier: Apache-2.0
"""Kind PROCESS: the service protocol (docs/process.md) spoken by hand, well and badly."""
import os
import random
import struct
import time

from support import fdpass, policy
from support.case import MIB, PAGE, Case, pattern

POLICY = policy.default()
BASE = 0x7f0000000000
SIZE = 64 * PAGE


class Service:
    """The process's end."""

    def __init__(self, case, conn, serve=True, **scope):
        self.case, self.actor = case, conn.actor
        status, fds = self.actor.exchange(conn.path, fdpass.request(
            fdpass.TAKE, conn.OpenDmaService(**scope).ticket))
        case.assertEqual((status, len(fds)), (fdpass.OK, 1))
        self.socket = self.actor.service(fds[0])
        if serve:
            self.memory = self.actor.service_serve(self.socket, BASE, pattern(SIZE), SIZE // 2)

    def receive(self, timeout=5.0):
        """(id, op, length, address, data) of the next access."""
        message = self.actor.service_receive(self.socket, timeout)
        self.case.assertTrue(message, "no access came: %r" % message)
        return (*struct.unpack_from("<QIIQ", message), message[24:])

    def answer(self, number, done, cause=0, data=b""):
        return self.actor.service_send(self.socket, struct.pack("<QII", number, done, cause) + data)

    def ended(self, timeout=5.0):
        while True:
            message = self.actor.service_receive(self.socket, timeout)
            if not message:
                return message == b""

    def close(self):
        self.actor.service_close(self.socket)


class Processes(Case):
    def setUp(self):
        super().setUp()
        self.need_kind(self.pb.IOASID_KIND_PROCESS)
        # A process of its own: it ends with what it has.
        self.actor = self.fresh_actor(policy.A)
        self.conn = self.connect(actor=self.actor)
        self.dev = self.device(self.conn)

    def space(self, conn=None, devices=None, **more):
        return self.alloc(conn or self.conn, [self.dev] if devices is None else devices,
                          self.pb.IOASID_KIND_PROCESS, **more)

    def served(self, serve=True):
        """The service and the space, with the device in it."""
        service = Service(self, self.conn, serve)
        space = self.space()
        self.conn.Attach(device=self.dev, ioasid=space)
        return service, space

    def read(self, length, at=0):
        return self.dma_read(self.conn, self.dev, BASE + at, length)

    def begin(self, length=8, at=0):
        return self.conn.start("DeviceDma", device=self.dev, access=self.pb.ACCESS_READ,
                               iova=BASE + at, length=length)

    def blocked(self, cause, answer, done=0):
        self.assertBlocked(answer, cause, done=done)


class Live(Processes):
    def test_both_ways(self):
        service, space = self.served()
        self.assertReads(self.conn, self.dev, BASE, pattern(SIZE))
        self.assertReads(self.conn, self.dev, BASE + 4093, pattern(SIZE)[4093:4093 + 20000])
        self.dma_write(self.conn, self.dev, BASE + PAGE - 3, b"to the process" * 3000)
        self.assertEqual(self.actor.served(service.memory, PAGE - 3, 42000),
                         b"to the process" * 3000)
        info = self.conn.GetIoasid(ioasid=space).ioasid
        self.assertEqual((info.choice.format, info.choice.input_bits), (0, 64))

    def test_faults_are_the_processs(self):
        self.served()
        self.blocked("NOT_PRESENT", self.read(8, SIZE))
        self.blocked("NOT_PRESENT", self.read(PAGE, SIZE - 100), done=100)
        got = self.dma_write(self.conn, self.dev, BASE + SIZE // 2 - 10, bytes(20))
        self.blocked("PERMISSION", got, done=10)
        self.assertEqual(got.fault.address, BASE + SIZE // 2)
        # In a later piece.
        self.blocked("NOT_PRESENT", self.read(100000, SIZE - 99000), done=99000)

    def test_by_pasid(self):
        self.served()
        service_b = self.connect()
        self.conn.Attach(device=self.dev, ioasid=self.space(), pasid={"value": 77})
        self.assertReads(self.conn, self.dev, BASE + 8, pattern(SIZE)[8:24], pasid=77)
        service_b.close()

    def test_reserved_range_is_not_the_processs(self):
        service, _ = self.served(serve=False)
        reserved = self.inventory.all[self.dev].capabilities.reserved[0]
        self.blocked("RESERVED_RANGE", self.dma_read(self.conn, self.dev, reserved.start, 8))
        waiting = self.conn.start("DeviceDma", device=self.dev, access=self.pb.ACCESS_READ,
                                  iova=reserved.start - 8, length=16)
        number, op, length, address, _ = service.receive()
        self.assertEqual((op, length, address), (1, 8, reserved.start - 8))
        service.answer(number, 8, 0, bytes(8))
        self.blocked("RESERVED_RANGE", waiting.result(), done=8)

    def test_pieces_are_bounded(self):
        service, _ = self.served(serve=False)
        waiting = self.begin(40000)
        for at, length in ((0, 16384), (16384, 16384), (32768, 40000 - 32768)):
            number, op, n, address, data = service.receive()
            self.assertEqual((op, n, address, data), (1, length, BASE + at, b""))
            service.answer(number, n, 0, bytes([at >> 14]) * n)
        self.assertEqual(waiting.result().data,
                         b"\0" * 16384 + b"\1" * 16384 + b"\2" * (40000 - 32768))

    def test_no_levels_and_no_maps(self):
        _, space = self.served()
        self.refused("UNIMPLEMENTED", self.conn.Translate, ioasid=space, iova=BASE,
                     access=self.pb.ACCESS_READ)
        memory = self.memory(self.conn)
        self.refused("NOT_FOUND", self.conn.Map, ioasid=space, entries=[self.entry(BASE, memory)])

    def test_alloc_asks_for_a_service_and_little_else(self):
        process = dict(kind=self.pb.IOASID_KIND_PROCESS, devices=[self.dev])
        self.refused("WRONG_STATE", self.conn.Alloc, **process)
        # Opened and not taken is not there yet.
        self.conn.OpenDmaService()
        self.refused("WRONG_STATE", self.conn.Alloc, **process)
        service = Service(self, self.conn)
        space = self.space()
        for more, field in ((dict(parent=space), "parent"),
                            (dict(candidates=[{"format": 1}]), "candidates"),
                            (dict(vm=1), "vm"), (dict(table=dict(root=PAGE)), "table")):
            self.refused("INVALID_FIELD", self.conn.Alloc, **process, **more, field=field)
        self.refused("INVALID_FIELD", self.conn.Alloc, kind=self.pb.IOASID_KIND_USER, parent=space,
                     devices=[self.dev], field="parent")
        # Another process of the same tenant and uid has none.
        other = self.connect(actor=self.fresh_actor(policy.A))
        self.refused("WRONG_STATE", other.Alloc, kind=self.pb.IOASID_KIND_PROCESS)
        self.refused("WRONG_STATE", self.conn.OpenDmaService)
        service.close()

    def test_only_the_process_takes_its_end(self):
        ticket = self.conn.OpenDmaService().ticket
        other = self.fresh_actor(policy.A)
        status, fds = other.exchange(self.conn.path, fdpass.request(fdpass.TAKE, ticket))
        self.assertEqual((status, fds), (fdpass.REFUSED, []))
        status, fds = self.actor.exchange(self.conn.path, fdpass.request(fdpass.TAKE, ticket))
        self.assertEqual((status, len(fds)), (fdpass.OK, 1))

    def test_of_one_lease(self):
        Service(self, self.conn)
        self.conn.OpenLease(name="other")
        self.refused("WRONG_STATE", self.conn.Alloc, kind=self.pb.IOASID_KIND_PROCESS,
                     lease="other")
        self.conn.CloseLease(lease="other")


class Ends(Processes):
    def test_socket_that_closes_ends_the_space(self):
        service, space = self.served(serve=False)
        service.close()
        self.wait_used("org/a", "kept_fds", 0)
        self.blocked("NOT_ATTACHED", self.read(8))
        # For good: a new service is another.
        Service(self, self.conn)
        self.blocked("NOT_ATTACHED", self.read(8))
        again = self.space()
        self.conn.Replace(device=self.dev, ioasid=again)
        self.assertReads(self.conn, self.dev, BASE, pattern(PAGE))
        self.conn.Free(ioasid=space)

    def test_access_under_way_ends_with_it(self):
        service, _ = self.served(serve=False)
        waiting = [self.begin() for _ in range(3)]
        for _ in waiting:
            service.receive()
        began = time.monotonic()
        service.close()
        for w in waiting:
            self.blocked("NOT_ATTACHED", w.result())
        self.assertLess(time.monotonic() - began, 0.9 * self.slow)

    def test_process_that_exits(self):
        """A lease that outlives it: another process adopted it."""
        secret = self.conn.OpenLease(name="kept", linger_seconds=60).secret
        dev = self.device(self.conn, 1, lease="kept")
        Service(self, self.conn, lease="kept")
        space = self.alloc(self.conn, [dev], self.pb.IOASID_KIND_PROCESS, lease="kept")
        self.conn.Attach(device=dev, ioasid=space, lease="kept")
        self.assertReads(self.conn, dev, BASE, pattern(PAGE), lease="kept")
        self.actor.kill()
        self.conn.channel = None
        heir = self.connect(actor=self.fresh_actor(policy.A))
        end = time.monotonic() + 5 * self.slow
        while heir.attempt("AdoptLease", name="kept", secret=secret).__class__.__name__ == "Refused":
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        self.assertBlocked(self.dma_read(heir, dev, BASE, 8, lease="kept"), "NOT_ATTACHED")
        self.assertEqual(self.used("org/a", "kept_fds"), 0)
        heir.CloseLease(lease="kept")

    def test_detach_ends_what_is_under_way(self):
        service, _ = self.served(serve=False)
        waiting = self.begin()
        number = service.receive()[0]
        self.conn.Detach(device=self.dev)
        self.blocked("NOT_ATTACHED", waiting.result())
        # Late, and harmless.
        self.assertTrue(service.answer(number, 8, 0, bytes(8)))
        self.assertIsNone(self.actor.service_receive(service.socket, 0.1))

    def test_replace_and_release_likewise(self):
        service, _ = self.served(serve=False)
        other = self.space()
        waiting = self.begin()
        service.receive()
        self.conn.Replace(device=self.dev, ioasid=other)
        self.blocked("NOT_ATTACHED", waiting.result())
        waiting = self.begin()
        service.receive()
        self.conn.ReleaseDevice(devices=[self.dev])
        self.blocked("NOT_ATTACHED", waiting.result())

    def test_lease_that_closes(self):
        service, _ = self.served(serve=False)
        waiting = self.begin()
        service.receive()
        self.conn.CloseLease()
        self.check_refusal(waiting.result(), "CANCELLED")
        self.assertTrue(service.ended())

    def test_call_that_is_cancelled(self):
        service, _ = self.served(serve=False)
        waiting = self.begin()
        number = service.receive()[0]
        waiting.cancel()
        time.sleep(0.1)
        service.answer(number, 8, 0, b"too late")
        again = self.begin()
        number = service.receive()[0]
        service.answer(number, 8, 0, b"in time!")
        self.assertEqual(again.result().data, b"in time!")


class Slow(Processes):
    def test_stalled_process_costs_a_fault_and_nobody_waits(self):
        service, _ = self.served(serve=False)
        device_b = self.device(self.b, 1)
        began = time.monotonic()
        waiting = self.begin()
        # Meanwhile the lease's other calls and other tenants go on.
        for _ in range(20):
            self.conn.ListIoasids()
            self.b.GetDevice(device=device_b)
        self.assertLess(time.monotonic() - began, 0.8)
        self.blocked("MEMORY_ERROR", waiting.result())
        self.assertGreater(time.monotonic() - began, 0.9)
        # It answers the first one late; that is no error, and it is in time for the next.
        number = service.receive()[0]
        service.answer(number, 8, 0, b"too late")
        waiting = self.begin()
        number = service.receive()[0]
        service.answer(number, 8, 0, b"in time!")
        self.assertEqual(waiting.result().data, b"in time!")

    def test_so_many_and_no_more_are_under_way(self):
        service, _ = self.served(serve=False)
        waiting = [self.begin() for _ in range(8)]
        began = time.monotonic()
        self.blocked("MEMORY_ERROR", self.read(8))
        self.assertLess(time.monotonic() - began, 0.5 * self.slow)
        for w in waiting:
            self.blocked("MEMORY_ERROR", w.result())
        # They still lie in its queue.
        began = time.monotonic()
        for _ in range(5):
            self.blocked("MEMORY_ERROR", self.read(8))
        self.assertLess(time.monotonic() - began, 0.5 * self.slow)
        numbers = [service.receive()[0] for _ in range(8)]
        for number in reversed(numbers):
            service.answer(number, 0, 1)
        service.actor.service_serve(service.socket, BASE, pattern(SIZE), SIZE)
        self.assertReads(self.conn, self.dev, BASE, pattern(PAGE))

    def test_full_socket(self):
        """Writes that the process does not take."""
        self.served(serve=False)
        waiting = [self.conn.start("DeviceDma", device=self.dev, access=self.pb.ACCESS_WRITE,
                                   iova=BASE, data=bytes(MIB)) for _ in range(12)]
        for w in waiting:
            self.blocked("MEMORY_ERROR", w.result())
        self.conn.ListIoasids()


class Hostile(Processes):
    def wrong(self, make):
        """An answer that is none ends the service, and the device gets a fault."""
        service, space = self.served(serve=False)
        waiting = self.begin(16)
        number = service.receive()[0]
        self.actor.service_send(service.socket, make(number))
        self.blocked("NOT_ATTACHED", waiting.result())
        self.assertTrue(service.ended())
        self.conn.Detach(device=self.dev)
        self.conn.Free(ioasid=space)

    def test_wrong_answers(self):
        def pack(number, done, cause, data=b""):
            return struct.pack("<QII", number, done, cause) + data

        for name, make in dict(
                short=lambda n: pack(n, 0, 1)[:15], byte=lambda n: b"x",
                foreign=lambda n: pack(n + 1, 0, 1), zero=lambda n: pack(0, 0, 1),
                huge=lambda n: pack(2 ** 64 - 1, 0, 1),
                more_done=lambda n: pack(n, 17, 1, bytes(17)),
                much_done=lambda n: pack(n, 2 ** 32 - 1, 0, bytes(16)),
                less_without_cause=lambda n: pack(n, 15, 0, bytes(15)),
                all_with_cause=lambda n: pack(n, 16, 1, bytes(16)),
                data_missing=lambda n: pack(n, 16, 0, bytes(15)),
                data_too_long=lambda n: pack(n, 16, 0, bytes(17)),
                far_too_long=lambda n: pack(n, 16, 0, bytes(100000)),
                cause_unknown=lambda n: pack(n, 0, 3), cause_large=lambda n: pack(n, 0, 2 ** 31),
                not_its_cause=lambda n: pack(n, 0, 7),
                random=lambda n: os.urandom(16)).items():
            with self.subTest(name):
                self.wrong(make)
        # The broker is well, and the process may begin anew.
        self.served()
        self.assertReads(self.conn, self.dev, BASE, pattern(PAGE))

    def test_random_answers(self):
        """Mutations of a right answer, seeded: taken exactly if they are one."""
        rng = random.Random(5)
        for _ in range(150):
            service, space = self.served(serve=False)
            waiting = self.begin(16)
            number = service.receive()[0]
            done, cause = rng.choice([(16, 0), (7, 1), (0, 9), (15, 2)])
            right = bytearray(struct.pack("<QII", number, done, cause) + bytes(done))
            made = bytearray(right)
            for _ in range(rng.randrange(3)):
                made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
            made = made[:rng.choice([len(made), len(made), rng.randrange(1, len(made) + 1)])]
            number_, done_, cause_ = struct.unpack("<QII", made[:16].ljust(16, b"\0"))
            good = (len(made) >= 16 and number_ == number and done_ <= 16
                    and cause_ in (0, 1, 2, 9) and (cause_ == 0) == (done_ == 16)
                    and len(made) == 16 + done_)
            self.actor.service_send(service.socket, bytes(made))
            answer = waiting.result()
            with self.subTest(made=made.hex()):
                if good:
                    self.assertEqual((answer.done, answer.fault.cause), (done_, cause_))
                    service.close()
                else:
                    self.blocked("NOT_ATTACHED", answer)
                    self.assertTrue(service.ended())
            self.conn.Detach(device=self.dev)
            self.conn.Free(ioasid=space)
            self.wait_used("org/a", "kept_fds", 0)

    def test_data_with_a_write(self):
        service, _ = self.served(serve=False)
        waiting = self.conn.start("DeviceDma", device=self.dev, access=self.pb.ACCESS_WRITE,
                                  iova=BASE, data=b"12345678")
        number, op, length, address, data = service.receive()
        self.assertEqual((op, length, address, data), (2, 8, BASE, b"12345678"))
        service.answer(number, 8, 0, b"12345678")
        self.blocked("NOT_ATTACHED", waiting.result())

    def test_answer_twice(self):
        service, _ = self.served(serve=False)
        waiting = self.begin(8)
        number = service.receive()[0]
        service.answer(number, 8, 0, bytes(8))
        service.answer(number, 8, 0, bytes(8))
        self.assertEqual(waiting.result().done, 8)
        self.assertTrue(service.ended())

    def test_unasked_answers_at_once(self):
        service = Service(self, self.conn, serve=False)
        for _ in range(100):
            if not service.answer(1, 0, 1):
                break
        self.assertTrue(service.ended())
        self.wait_used("org/a", "kept_fds", 0)

    def test_ticket_that_nobody_takes(self):
        self.conn.OpenDmaService()
        self.assertEqual(self.used("org/a", "kept_fds"), 3)
        # Another takes its place.
        Service(self, self.conn)
        self.assertEqual(self.used("org/a", "kept_fds"), 2)


class Quotas(Processes):
    def test_service_is_charged(self):
        for n in (0, 1, 2):
            self.limited("org/a", kept_fds=n)
            self.refused("QUOTA", self.conn.OpenDmaService)
            self.assertEqual(self.used("org/a", "kept_fds"), 0)
        self.limited("org/a", kept_fds=3)
        Service(self, self.conn)
        self.assertEqual(self.used("org/a", "kept_fds"), 2)

    def test_spaces_are_counted_by_kind(self):
        Service(self, self.conn)
        self.limited("org/a", ioasids_process=2)
        ids = [self.space() for _ in range(2)]
        self.refused("QUOTA", self.conn.Alloc, kind=self.pb.IOASID_KIND_PROCESS,
                     devices=[self.dev])
        self.conn.Free(ioasid=ids[0])
        self.space()
        self.assertEqual(self.used("org/a", "ioasids_process"), 2)
