# SPDX-License-Identifier: Apache-2.0
"""ioasidd is killed and started again on what it left: registry and keeper."""
import contextlib
import os
import select
import socket
import threading
import time

from support import fdpass, policy, process
from support.case import PAGE, Case, pattern

KEEPER = True
ARGUMENTS = ("--grace", "20")


class Restarts(Case):
    def restart(self):
        self.world.restart()

    def wait_said(self, text, times=1):
        """The log is written by a thread of its own."""
        end = time.monotonic() + 10 * self.slow
        while self.world.server.stderr().count(text) < times:
            self.assertLess(time.monotonic(), end, self.world.server.stderr()[-2000:])
            time.sleep(0.05)

    def again(self, conn):
        """The same process, connected anew."""
        return self.connect_as(conn.actor, conn.path)

    def connect_as(self, actor, path):
        conn = self.world.connection(actor, path)
        self._connections.append(conn)
        return conn

    def resumed(self, conn, token):
        new = self.again(conn)
        return new, new.Resume(token=token)

    def token(self, conn):
        return conn.GetStatus().resume_token

    def furnish(self, conn, **scope):
        """Device, memory, space, mapping, attachment; and bytes that a device can read."""
        memory = self.memory(conn, pages=16, fill=pattern(16 * PAGE), scope=scope)
        device = self.device(conn, **scope)
        ioasid = self.alloc(conn, [device], label="kept", **scope)
        self.map(conn, ioasid, self.entry(0x10100000, memory, pages=8),
                 self.entry(0x10200000, memory, pages=8, offset=8 * PAGE, write=False), **scope)
        conn.Attach(device=device, ioasid=ioasid, **scope)
        return memory, device, ioasid

    def check_furnished(self, conn, memory, device, ioasid, **scope):
        self.assertReads(conn, device, 0x10100000, pattern(8 * PAGE), **scope)
        self.assertReads(conn, device, 0x10200000, pattern(16 * PAGE)[8 * PAGE:], **scope)
        got = self.dma_write(conn, device, 0x10200000, b"x" * 8, **scope)
        self.assertBlocked(got, "PERMISSION")
        d = conn.GetIoasid(ioasid=ioasid, **scope).ioasid
        self.assertEqual((d.label, d.mappings, d.attachments), ("kept", 2, 1))


class Restart(Restarts):
    def test_connection_lease_is_resumed(self):
        a = self.connect(policy.A)
        token = self.token(a)
        furniture = self.furnish(a)
        before = self.usage("org/a")
        self.restart()
        a, answer = self.resumed(a, token)
        self.assertEqual([(l.name, l.mine, l.held) for l in answer.leases], [("", True, True)])
        self.check_furnished(a, *furniture)
        after = self.usage("org/a")
        for name in before:
            if name not in ("connections", "requests_in_flight", "broker_bytes"):
                self.assertEqual(after[name].own, before[name].own, name)
        # Ids go on where they were.
        self.assertGreater(self.alloc(a), furniture[2])
        # Twice, with the token of the new connection.
        token = self.token(a)
        self.restart()
        a, answer = self.resumed(a, token)
        self.check_furnished(a, *furniture)

    def test_translated_pasid_that_is_its_own_number(self):
        """It stays taken: nothing else comes to stand there."""
        self.need_pasids()
        changed = policy.default()
        changed["tenants"]["org/a"]["pasid_policy"] = "translated"
        self.addCleanup(self.reload, policy.default())
        self.reload(changed)
        a = self.connect(policy.A)
        token = self.token(a)
        device = self.device_with_pasids(a)
        memory = self.memory(a, pages=2, fill=pattern(2 * PAGE))
        spaces = []
        for n in range(2):
            spaces.append(self.alloc(a, [device]))
            self.map(a, spaces[n], self.entry(0x10100000, memory, pages=1, offset=n * PAGE))
        # The lowest free number stands for it: the same.
        a.Attach(device=device, ioasid=spaces[0], pasid={"value": 1})
        self.restart()
        a, _ = self.resumed(a, token)
        a.Attach(device=device, ioasid=spaces[1], pasid={"value": 9})
        self.assertReads(a, device, 0x10100000, pattern(2 * PAGE)[:PAGE], pasid=1)
        self.assertReads(a, device, 0x10100000, pattern(2 * PAGE)[PAGE:], pasid=9)
        for pasid in (1, 9):
            a.Detach(device=device, pasid={"value": pasid})
        self.assertEqual(self.used("org/a", "pasids"), 0)

    def test_pasid_of_an_earlier_policy(self):
        """It is restored as it was attached, and the registry says so of every attachment."""
        self.need_pasids()
        able = [d.address for d in self.inventory.single if d.capabilities.pasid_bits]
        if len(able) < 2:
            self.skipTest("one device with PASIDs only")
        a = self.connect(policy.A)
        token = self.token(a)
        a.ClaimDevice(devices=able[:2])
        memory = self.memory(a, pages=2, fill=pattern(2 * PAGE))
        spaces = []
        for n in range(2):
            spaces.append(self.alloc(a, able[:2]))
            self.map(a, spaces[n], self.entry(0x10100000, memory, pages=1, offset=n * PAGE))
        a.Attach(device=able[0], ioasid=spaces[1], pasid={"value": 7})
        changed = policy.default()
        changed["tenants"]["org/a"]["pasid_policy"] = "translated"
        self.addCleanup(self.reload, policy.default())
        self.reload(changed)
        a.Attach(device=able[1], ioasid=spaces[1], pasid={"value": 7})
        a.Replace(device=able[0], ioasid=spaces[0], pasid={"value": 7})
        self.restart()
        a, _ = self.resumed(a, token)
        for n in range(2):
            self.assertReads(a, able[n], 0x10100000, pattern(2 * PAGE)[n * PAGE:][:PAGE], pasid=7)
            a.Detach(device=able[n], pasid={"value": 7})
        self.assertEqual(self.used("org/a", "pasids"), 0)

    def reload(self, content):
        self.world.server.write_policy(content)
        self.admin.ReloadPolicy()

    def device_with_pasids(self, conn):
        """Claimed."""
        able = [d.address for d in self.inventory.single if d.capabilities.pasid_bits]
        conn.ClaimDevice(devices=able[:1])
        return able[0]

    def test_vm_is_made_again(self):
        """Slots, and a destroyed VM that is still used; its table is filled anew."""
        self.need_kind(self.pb.IOASID_KIND_KVM)
        a = self.connect(policy.A)
        token = self.token(a)
        device = self.device(a)
        memory = self.memory(a, pages=16, fill=pattern(16 * PAGE))
        vms = [a.CreateVm(label="guest").vm for _ in range(2)]
        for vm in vms:
            a.SetMemorySlot(vm=vm, slot=3, guest_address=1 << 30, size=8 * PAGE, memory=memory.id,
                            offset=4 * PAGE, read_only=True)
            a.SetMemorySlot(vm=vm, slot=9, guest_address=0, size=PAGE, memory=memory.id)
            a.SetMemorySlot(vm=vm, slot=9, guest_address=PAGE, size=PAGE, memory=memory.id)
        a.SetMemorySlot(vm=vms[0], slot=4, guest_address=2 << 30, size=PAGE, memory=memory.id)
        a.SetMemorySlot(vm=vms[0], slot=4)
        spaces = [self.alloc(a, [device], self.pb.IOASID_KIND_KVM, vm=vm) for vm in vms]
        a.Attach(device=device, ioasid=spaces[0])
        a.DestroyVm(vm=vms[0])
        self.assertReads(a, device, 1 << 30, pattern(16 * PAGE)[4 * PAGE:12 * PAGE])
        before = self.usage("org/a")
        for _ in range(2):
            self.restart()
            a, answer = self.resumed(a, token)
            token = self.token(a)
            self.check_counters()
            after = self.usage("org/a")
            for name in ("vms", "ioasids_kvm", "registered_bytes", "pinned_bytes"):
                self.assertEqual(after[name].own, before[name].own, name)
            self.assertReads(a, device, 1 << 30, pattern(16 * PAGE)[4 * PAGE:12 * PAGE])
            self.assertReads(a, device, PAGE, pattern(PAGE))
            self.assertBlocked(self.dma_write(a, device, 1 << 30, b"x"), "PERMISSION")
            for address in (0, 2 << 30):
                self.assertBlocked(self.dma_read(a, device, address, 8), "NOT_PRESENT")
        self.refused("NOT_FOUND", a.SetMemorySlot, vm=vms[0], slot=9)
        a.SetMemorySlot(vm=vms[1], slot=9)
        a.Detach(device=device)
        a.Free(ioasid=spaces[0])
        self.assertEqual(self.used("org/a", "vms"), 1)
        a.DestroyVm(vm=vms[1])
        a.Free(ioasid=spaces[1])
        self.assertEqual(self.used("org/a", "vms"), 0)

    def test_process_opens_its_service_again(self):
        """Its spaces wait for it, faulting; those of a service that had ended do not."""
        self.need_kind(self.pb.IOASID_KIND_PROCESS)
        base, bytes_ = 0x7f0000000000, pattern(4 * PAGE)
        actor = self.fresh_actor(policy.A)
        a = self.connect_as(actor, self.world.server.socket("tenants"))
        token, device = self.token(a), self.device(a)

        def serve(conn):
            _, (fd,) = actor.exchange(conn.path, fdpass.request(
                fdpass.TAKE, conn.OpenDmaService().ticket))
            service = actor.service(fd)
            return service

        service = serve(a)
        lost = self.alloc(a, [device], self.pb.IOASID_KIND_PROCESS)
        actor.service_close(service)
        self.wait_used("org/a", "kept_fds", 0)
        actor.service_serve(serve(a), base, bytes_, len(bytes_))
        space = self.alloc(a, [device], self.pb.IOASID_KIND_PROCESS)
        a.Attach(device=device, ioasid=space)
        self.assertReads(a, device, base, bytes_)
        self.restart()
        a, _ = self.resumed(a, token)
        self.assertEqual(self.used("org/a", "ioasids_process"), 2)
        self.assertBlocked(self.dma_read(a, device, base, 8), "NOT_ATTACHED")
        # Another process of the tenant is not it.
        other = self.connect_as(self.fresh_actor(policy.A), a.path)
        other.OpenDmaService()
        actor.service_serve(serve(a), base, bytes_[::-1], len(bytes_))
        self.assertReads(a, device, base, bytes_[::-1])
        self.check_counters()
        a.Replace(device=device, ioasid=lost)
        self.assertBlocked(self.dma_read(a, device, base, 8), "NOT_ATTACHED")

    def test_libioasid_opens_its_service_again(self):
        """The program does nothing for it, whether the broker was killed or ended in order."""
        self.need_soft("no kernel offers SVA to a broker")
        for lease in ("", "kept"):
            with self.subTest(lease=lease):
                self.libioasid_opens_its_service_again(lease)

    def libioasid_opens_its_service_again(self, lease):
        device = self.inventory.single[0].address
        p = process.Process(self.world.server, policy.A, device, lease, self.slow)
        self.addCleanup(p.kill)
        self.assertEqual(p.read(0, process.SIZE), (0, process.SIZE, process.PATTERN))
        for n, orderly in enumerate((False, True, False), 1):
            if orderly:
                self.assertEqual(self.world.server.terminate(), 0)
                self.world.server.clear()
                self.world.start_again()
            else:
                self.restart()
            # Until it is open again the device gets faults, and never wrong bytes.
            end = time.monotonic() + 20 * self.slow
            while True:
                cause, done, data = p.read(0, process.SIZE)
                self.assertEqual(data, process.PATTERN[:done])
                if not cause:
                    break
                self.assertEqual(self.pb.FaultCause.Name(cause), "FAULT_CAUSE_NOT_ATTACHED")
                self.assertLess(time.monotonic(), end, "the service was not opened again")
            self.assertEqual(done, process.SIZE)
            self.assertEqual(p.service(), (True, n))
            text = b"after restart %d" % n
            self.assertEqual(p.write(100 * n, text), (0, len(text)))
            self.assertEqual(p.peek(100 * n, len(text)), text)
            p.write(100 * n, process.PATTERN[100 * n:100 * n + len(text)])
            self.check_counters()
        p.say("exit")
        self.assertEqual(p.exits(), 0)
        if lease:
            heir = self.connect(policy.A)
            heir.AdoptLease(name=lease, secret=p.secret)
            self.assertBlocked(self.dma_read(heir, device, p.address, 8, lease=lease),
                               "NOT_ATTACHED")
            heir.CloseLease(lease=lease)
        self.wait_used("org/a", "kept_fds", 0)
        self.world.wait_free()

    def test_named_lease_is_adopted(self):
        a = self.connect(policy.A)
        secret = a.OpenLease(name="vm", linger_seconds=60).secret
        furniture = self.furnish(a, lease="vm")
        self.restart()
        a = self.again(a)
        self.refused("NOT_FOUND", a.AdoptLease, name="vm", secret=b"x" * 32)
        a.AdoptLease(name="vm", secret=secret)
        self.check_furnished(a, *furniture, lease="vm")
        a.CloseLease(lease="vm")

    def test_not_resumed_by_another_process_or_user(self):
        a = self.connect(policy.A)
        token = self.token(a)
        self.alloc(a)
        self.restart()
        other = self.connect_as(self.fresh_actor(policy.A), a.path)
        self.refused("NOT_FOUND", other.Resume, token=token)
        b = self.connect(policy.B)
        self.refused("NOT_FOUND", b.Resume, token=token)
        a, answer = self.resumed(a, token)
        self.refused("NOT_FOUND", a.Resume, token=token)
        self.refused("NOT_FOUND", a.Resume, token=b"\0" * 32)
        self.refused("INVALID_FIELD", a.Resume, token=b"short", field="token")

    def test_process_that_ended_meanwhile(self):
        actor = self.fresh_actor(policy.A)
        a = self.connect_as(actor, self.world.server.socket("tenants"))
        self.furnish(a)
        self.world.server.kill()
        actor.kill()
        self.world.start_again()
        self.wait_used("org/a", "ioasids", 0)
        self.wait_used("org/a", "devices", 0)

    def test_process_that_ends_before_it_resumes(self):
        actor = self.fresh_actor(policy.A)
        a = self.connect_as(actor, self.world.server.socket("tenants"))
        self.furnish(a)
        self.restart()
        self.assertEqual(self.used("org/a", "ioasids"), 1)
        actor.kill()
        self.wait_used("org/a", "ioasids", 0)

    def test_keys_are_remembered(self):
        a = self.connect(policy.A)
        token = self.token(a)
        first = a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k1")
        self.restart()
        a, _ = self.resumed(a, token)
        again = a.Alloc(kind=self.pb.IOASID_KIND_KERNEL, key="k1")
        self.assertEqual(again.SerializeToString(), first.SerializeToString())
        self.refused("KEY_REUSED", a.Free, ioasid=first.ioasid, key="k1")
        self.assertEqual(self.used("org/a", "ioasids"), 1)

    def test_pending_objects_stay_pending(self):
        self.need_dma_calls("a real one is driven by what its space says")
        a = self.connect(policy.A)
        token = self.token(a)
        memory, device, ioasid = self.furnish(a)
        self.assertTrue(a.Free(ioasid=ioasid).pending)
        self.assertTrue(a.UnregisterMemory(memory=memory.id).pending)
        self.restart()
        a, _ = self.resumed(a, token)
        self.assertReads(a, device, 0x10100000, pattern(8 * PAGE))
        self.refused("NOT_FOUND", a.GetIoasid, ioasid=ioasid)
        self.assertEqual(self.used("org/a", "ioasids", "kept_fds"), [1, 1])
        a.Detach(device=device)
        self.assertEqual(self.used("org/a", "ioasids", "kept_fds", "map_entries"), [0, 0, 0])

    def test_limits_and_draining_stay(self):
        self.limited("org/a", ioasids=3)
        self.limited("", devices=5)
        self.admin.DrainTenant(tenant="org/b", drain=True)
        self.restart()
        self.assertEqual(self.usage("org/a")["ioasids"].limit, 3)
        self.assertEqual(self.usage("")["devices"].limit, 5)
        b = self.connect(policy.B)
        self.refused("WRONG_STATE", b.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.admin.DrainTenant(tenant="org/b", drain=False)
        self.restart()
        self.alloc(self.connect(policy.B))

    def test_what_was_given_back_stays_away(self):
        a = self.connect(policy.A)
        token = self.token(a)
        memory, device, ioasid = self.furnish(a)
        a.Unmap(ioasid=ioasid, ranges=[{"iova": 0x10200000, "length": 8 * PAGE}])
        a.Detach(device=device)
        a.ReleaseDevice(devices=[device])
        self.restart()
        a, _ = self.resumed(a, token)
        self.assertEqual(self.mappings(a, ioasid), [(0x10100000, 8 * PAGE)])
        self.assertEqual(self.used("org/a", "devices"), 0)
        self.device(a)
        a.Attach(device=device, ioasid=ioasid)
        self.assertReads(a, device, 0x10100000, pattern(8 * PAGE))

    def test_nested_spaces(self):
        self.need_software_nesting()
        a = self.connect(policy.A)
        token = self.token(a)
        memory = self.memory(a, pages=4, fill=pattern(4 * PAGE))
        device = self.inventory.having(lambda c: c.max_depth > 1)[0]
        a.ClaimDevice(devices=[device])
        parent = self.alloc(a, [device])
        self.map(a, parent, self.entry(0x10010000, memory, pages=4))
        child = self.alloc(a, [device], parent=parent)
        self.map(a, child, self.child_entry(0x50000, 0x10010000, pages=4))
        a.Attach(device=device, ioasid=child)
        self.restart()
        a, _ = self.resumed(a, token)
        self.assertReads(a, device, 0x50000, pattern(4 * PAGE))

    def test_group(self):
        """Its devices share one table where they are real: the last one's end is the end."""
        self.need_groups()
        a = self.connect(policy.A)
        token = self.token(a)
        memory = self.memory(a, pages=4, fill=pattern(4 * PAGE))
        both = [d.address for d in self.inventory.groups[0]][:2]
        self.assertEqual(len(self.inventory.groups[0]), 2)
        a.ClaimDevice(devices=both)
        ioasid = self.alloc(a, both)
        self.map(a, ioasid, self.entry(0x10010000, memory, pages=4))
        for device in both:
            a.Attach(device=device, ioasid=ioasid)
        for device in both:
            self.assertReads(a, device, 0x10010000, pattern(4 * PAGE))
        self.restart()
        a, _ = self.resumed(a, token)
        token = self.token(a)
        for device in both:
            self.assertReads(a, device, 0x10010000, pattern(4 * PAGE))
        a.Detach(device=both[0])
        # Half of it is attached now.
        self.restart()
        a, _ = self.resumed(a, token)
        self.assertReads(a, both[1], 0x10010000, pattern(4 * PAGE))
        a.Detach(device=both[1])
        for device in both:
            got = self.dma_read(a, device, 0x10010000, 64)
            self.assertBlocked(got, "NOT_ATTACHED")
        for device in both:
            a.Attach(device=device, ioasid=ioasid)
        self.assertReads(a, both[0], 0x10010000, pattern(4 * PAGE))
        a.ReleaseDevice(devices=both)
        self.wait_used("org/a", "devices", 0)

    def test_tenants_stay_apart(self):
        """Two leases with the same addresses, found again side by side."""
        kept = []
        for uid, seed in (policy.A, 3), (policy.B, 4):
            conn = self.connect(uid)
            token, device = self.token(conn), self.inventory.single[len(kept)].address
            memory = self.memory(conn, pages=2, fill=pattern(2 * PAGE, seed))
            conn.ClaimDevice(devices=[device])
            ioasid = self.alloc(conn, [device])
            self.map(conn, ioasid, self.entry(0x10010000, memory, pages=2))
            conn.Attach(device=device, ioasid=ioasid)
            kept.append((conn, token, device, ioasid, seed))
        self.restart()
        for conn, token, device, ioasid, seed in kept:
            conn, _ = self.resumed(conn, token)
            self.assertReads(conn, device, 0x10010000, pattern(2 * PAGE, seed))
            conn.Unmap(ioasid=ioasid, ranges=[{"iova": 0x10010000, "length": 2 * PAGE}])
            self.assertBlocked(self.dma_read(conn, device, 0x10010000, 64), "NOT_PRESENT")

    def test_report_and_check(self):
        a = self.connect(policy.A)
        token = self.token(a)
        self.furnish(a)
        generation = self.admin.GetStatus().registry_generation
        self.restart()
        status = self.admin.GetStatus()
        self.assertEqual(status.registry_generation, generation + 1)
        r = status.restart
        self.assertEqual((r.leases_restored, r.leases_ended, r.memories, r.ioasids, r.mappings,
                          r.attachments, r.devices, r.damaged_records, r.strays),
                         (1, 0, 1, 1, 2, 1, 1, 0, 0))
        self.assertEqual(list(self.admin.Check().problems), [])
        (lease,) = self.admin.ListLeases().leases
        self.assertTrue(lease.awaited)
        self.resumed(a, token)

    def test_orderly_stop_leaves_everything(self):
        a = self.connect(policy.A)
        token = self.token(a)
        furniture = self.furnish(a)
        self.assertEqual(self.world.server.terminate(), 0)
        self.world.start_again()
        a, _ = self.resumed(a, token)
        self.check_furnished(a, *furniture)

    def test_events_are_numbered_on(self):
        a = self.connect(policy.A)
        token = self.token(a)
        watch = a.watch("WatchEvents")
        self.alloc(a)
        last = watch.next(5)
        while last.type != self.pb.EVENT_TYPE_IOASID_ALLOCATED:
            last = watch.next(5)
        self.restart()
        a, _ = self.resumed(a, token)
        watch = a.watch("WatchEvents", after_sequence=last.sequence)
        self.alloc(a)
        first = watch.next(5)
        self.assertGreater(first.sequence, last.sequence)
        self.assertGreater(first.lost, 0)


@contextlib.contextmanager
def keeper_that_goes(server):
    """It answers HELLO (docs/keeper-protocol.md), and is gone with the first other request."""
    path = os.path.join(server.folder, "going")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(16)

    def serve():
        connections = []
        while True:
            try:
                ready, _, _ = select.select([listener] + connections, [], [], 20)
            except (OSError, ValueError):
                return
            for s in ready:
                if s is listener:
                    connections.append(s.accept()[0])
                    continue
                request = s.recv(2048)
                if request and request[5] == 1:
                    s.send(request[:6] + bytes(448 - 6))
                    continue
                if request:
                    os.unlink(path)
                    listener.close()
                    for c in connections:
                        c.close()
                    return
                connections.remove(s)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path
    listener.close()


class Keeper(Restarts):
    def setUp(self):
        super().setUp()
        self.need_soft("contexts and devices outlive the keeper in systemd's fd store only")

    def test_keeper_restart_alone(self):
        a = self.connect(policy.A)
        token = self.token(a)
        furniture = self.furnish(a)
        self.world.server.restart_keeper()
        self.wait_said("fds given again")
        self.memory(a, pages=2)
        self.restart()
        a, _ = self.resumed(a, token)
        self.check_furnished(a, *furniture)
        self.assertEqual(len(a.ListMemory().memory), 2)

    def test_keeper_restart_right_after_the_broker(self):
        a = self.connect(policy.A)
        token = self.token(a)
        self.furnish(a)
        stderr = self.world.server.stderr()
        self.world.server.kill()
        self.world.server.start()
        # Callers may connect before the broker has found everything.
        self.wait_said("listening: admin", stderr.count("listening: admin") + 1)
        self.world.server.restart_keeper()
        self.wait_said("1 fds given again", stderr.count("1 fds given again") + 1)
        self.world.restart()
        a, _ = self.resumed(a, token)

    def test_keeper_that_goes_while_its_fds_are_taken(self):
        """The start fails in order, and a later one, with the keeper, finds everything."""
        a = self.connect(policy.A)
        token = self.token(a)
        b = self.connect(policy.B)
        self.alloc(b)
        b_token = self.token(b)
        furniture = self.furnish(a)
        server = self.world.server
        server.kill()
        with keeper_that_goes(server) as path:
            server.spawn(keeper=path)
            self.assertEqual(server.process.wait(10 * self.slow), 1)
        server.clear()
        self.world.start_again()
        a, _ = self.resumed(a, token)
        self.check_furnished(a, *furniture)
        self.resumed(b, b_token)

    def test_both_at_once(self):
        a = self.connect(policy.A)
        token = self.token(a)
        self.furnish(a)
        b = self.connect(policy.B)
        b_token = self.token(b)
        ioasid = self.alloc(b)
        self.world.server.kill()
        self.world.server.restart_keeper()
        self.world.start_again()
        a = self.again(a)
        self.refused("NOT_FOUND", a.Resume, token=token)
        self.assertEqual(self.used("org/a", "ioasids", "devices"), [0, 0])
        b, _ = self.resumed(b, b_token)
        b.GetIoasid(ioasid=ioasid)
        self.wait_said("the keeper does not have its fd")

