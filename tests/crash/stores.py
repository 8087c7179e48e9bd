# SPDX-License-Identifier: Apache-2.0
"""
Bad stores: a broker is killed, something is done to what it left, and the next one has a stated
result.  Tenant a (org/a) is the one who is hit, tenant b (org/b) the one who must not notice,
where the damage says whose it is.

No crash loop: every bad store is started on three times, the damaged bytes put back each time,
and once more on what the last of these starts made of it; each of them serves.
"""
import glob
import multiprocessing
import os
import shutil
import struct
import subprocess
import time
import traceback

from support import policy
from support.case import PAGE, pattern
from support.client import Refused
from support.server import SERVER_UID

from stage import HIGH, LOW, Stage, check, difference

KINDS = ("lease", "memory", "ioasid", "mapping", "attachment", "device", "key", "intent",
         "drop.intent", "drop.mapping", "drop.attachment", "drop.device", "drop.memory",
         "drop.ioasid")
TOPOLOGY = {
    "version": 1,
    "iommus": [{"name": "i0", "formats": ["vtdss-4l"], "max_depth": 3}],
    "devices": [{"address": "0000:%02x:00.0" % n, "vendor_device": "8086:10fb",
                 "class": "020000", "iommu": "i0", "group": n} for n in (1, 2, 3, 4)],
}
A_DEVICE, A_SPARE, B_DEVICE = ("0000:%02x:00.0" % n for n in (1, 2, 3))


class Tenant:
    """A tenant with a device that reads its memory."""

    def __init__(self, stage, uid, path, devices, seed):
        self.stage, self.uid, self.path, self.seed = stage, uid, path, seed
        self.devices = devices
        self.conn = conn = stage.connect(uid)
        self.memory, _ = stage.memory(conn, 10, seed)
        conn.ClaimDevice(devices=devices, key="claim")
        self.ioasid = stage.alloc(conn, devices[:1], key="alloc", label="mine")
        conn.Map(ioasid=self.ioasid, key="map", entries=[
            stage.entry(LOW, self.memory, 8), stage.entry(HIGH, self.memory, 2, 8)])
        conn.Attach(device=devices[0], ioasid=self.ioasid)
        self.token = self.last_token = stage.token(conn)
        self.serial = next(lease.serial for lease in stage.admin.ListLeases().leases
                           if lease.tenant == path)

    def give_some_back(self):
        """So that the log has drops of every kind."""
        s, conn = self.stage, self.conn
        memory, _ = s.memory(conn, 1)
        ioasid = s.alloc(conn, self.devices[1:])
        conn.Map(ioasid=ioasid, entries=[s.entry(LOW, memory), s.entry(HIGH, memory)])
        conn.Attach(device=self.devices[1], ioasid=ioasid)
        conn.Unmap(ioasid=ioasid, ranges=[dict(iova=LOW, length=PAGE)])
        conn.Detach(device=self.devices[1])
        conn.ReleaseDevice(devices=self.devices[1:])
        conn.Free(ioasid=ioasid)
        conn.UnregisterMemory(memory=memory)

    def hung_up(self):
        self.conn.close()
        self.conn = self.stage.connect(self.uid)
        return self.conn

    def resume(self):
        answer = self.hung_up().attempt("Resume", token=self.token)
        check(not isinstance(answer, Refused), "%s: Resume: %s", self.path, answer)
        self.last_token = self.stage.token(self.conn)

    def lives(self):
        """It comes back and has everything; nothing of its memory is anybody else's."""
        self.resume()
        self.reads()

    def reads(self):
        expected = pattern(10 * PAGE, self.seed)
        for iova, offset in ((LOW, 0), (LOW + 7 * PAGE, 7 * PAGE), (HIGH, 8 * PAGE)):
            got = self.dma(iova)
            check(got.data == expected[offset:offset + 8], "%s: DMA at %#x: %s", self.path, iova,
                  got)
        check(self.dma(LOW + 8 * PAGE).HasField("fault"), "%s: DMA beyond a mapping", self.path)
        again = self.conn.attempt("Alloc", kind=self.stage.pb.IOASID_KIND_KERNEL,
                                  devices=self.devices[:1], key="alloc", label="mine")
        check(getattr(again, "ioasid", None) == self.ioasid, "%s: its key: %s", self.path, again)

    def dma(self, iova):
        return self.conn.DeviceDma(device=self.devices[0], access=self.stage.pb.ACCESS_READ,
                                   iova=iova, length=8)

    def is_gone(self):
        """Nothing is left of it, and it can begin anew."""
        s = self.stage
        answer = self.hung_up().attempt("Resume", token=self.token)
        check(getattr(answer, "reason", "") == "NOT_FOUND", "%s: Resume: %s", self.path, answer)
        for r in usage(s, self.path).values():
            check(not r.own or r.resource in OF_CONNECTION, "%s: still charged: %s", self.path, r)
        check(not [n for n in s.kept() if n.startswith("m.%d." % self.serial)],
              "%s: the keeper still holds %s", self.path, s.kept())
        self.conn.ClaimDevice(devices=self.devices[:1])
        self.hung_up()
        s.until(lambda: not usage(s, self.path)["devices"].own, "its device is free")


OF_CONNECTION = {"connections", "requests_in_flight", "broker_bytes", "leases"}


def usage(stage, path):
    for tenant in stage.admin.ListTenants(subtree=path, with_unused=True, page_size=1024).tenants:
        if tenant.path == path:
            return {r.resource: r for r in tenant.resources}
    raise AssertionError("no tenant %r" % path)


class Play:
    """A stage with both tenants, killed; and what the tests do to it."""

    def __init__(self, api, options, **more):
        more.setdefault("topology", TOPOLOGY)
        self.stage = self.s = Stage(api, options.build, options.slow, **more)

    def begin(self):
        self.s.start()
        self.a = Tenant(self.s, policy.A, "org/a", [A_DEVICE, A_SPARE], 3)
        self.b = Tenant(self.s, policy.B, "org/b", [B_DEVICE], 4)
        self.a.give_some_back()
        self.s.consistent()

    def crash(self):
        self.s.kill()
        self.since = self.s.log_size()

    @property
    def log(self):
        return os.path.join(self.s.server.registry, "log")

    def read(self):
        with open(self.log, "rb") as f:
            return f.read()

    def write(self, data):
        with open(self.log, "r+b") as f:
            f.write(data)
            f.truncate()

    def frames(self):
        """[(offset, length, lease, kinds)]"""
        out = subprocess.run([os.path.join(self.s.build, "tests", "registry_tamper"), self.log,
                              "list"], capture_output=True, text=True, check=True).stdout
        return [(int(f[0]), int(f[1]), int(f[2]), f[3:]) for f in map(str.split, out.splitlines())]

    def said(self):
        return self.s.said(self.since)

    def says(self, *texts):
        for text in texts:
            self.s.wait_said(text, self.since)

    def says_not(self, text, after="restored in"):
        self.says(after)
        check(text not in self.said(), "the log says %r:\n%s", text, self.said()[-4000:])

    def event(self, kind, **fields):
        """It is among the events since the start."""
        watch = self.s.admin.watch("Admin/WatchEvents", types=[kind], after_sequence=1)
        message = watch.next(5)
        while message not in (None, "END") and not isinstance(message, Refused):
            if all(getattr(message, k) == v for k, v in fields.items()):
                watch.cancel()
                return message
            message = watch.next(5)
        raise AssertionError("no event %s %s" % (kind, fields))

    def start(self):
        self.since = self.s.log_size()
        self.s.start()

    def starts(self, bad, look):
        """Three starts on these bytes, and one on what came of them."""
        for _ in range(3):
            self.write(bad)
            self.start()
            look()
            self.s.consistent()
            kept = self.log + ".damaged"
            if os.path.exists(kept):
                with open(kept, "rb") as f:
                    check(f.read() == bad, "log.damaged is not the damaged log")
            self.s.kill()
        self.start()
        self.s.registry("check")
        self.s.consistent()
        self.says_not("is ended")
        for tenant in (self.a, self.b):
            tenant.token = tenant.last_token

    def has_damaged(self):
        check(os.path.exists(self.log + ".damaged"), "there is no log.damaged")


# ---- tests ----------------------------------------------------------------------------------


def torn_tail(p):
    """The last batch was cut off: it is left out, nobody has damage."""
    p.begin()
    p.crash()
    data, (offset, length, _, _) = bytearray(p.read()), p.frames()[-1]
    end = offset + length + -length % 8
    data[end:end + 24] = b"\x40\0\0\0" + b"\x5a" * 20

    def look():
        p.says("was cut off and is left out")
        p.a.lives()
        p.b.lives()
        p.has_damaged()
        check(p.s.admin.GetStatus().restart.damaged_records == 1, "damaged_records")

    p.starts(bytes(data), look)


def half_written(p):
    """What a kill leaves of a batch, anything without its length, is a clean end."""
    p.begin()
    p.crash()
    data, (offset, length, _, _) = bytearray(p.read()), p.frames()[-1]
    end = offset + length + -length % 8
    data[end + 4:end + 60] = b"\x5a" * 56

    def look():
        p.says("damaged records 0")
        p.a.lives()
        p.b.lives()
        check(not os.path.exists(p.log + ".damaged"), "log.damaged of a clean log")

    p.starts(bytes(data), look)


def flipped(kind):
    def test(p):
        p.begin()
        p.crash()
        data = bytearray(p.read())
        found = [f for f in p.frames() if f[2] == p.a.serial and kind in f[3]]
        check(found, "no frame of the lease has a %s", kind)
        offset, length, _, _ = found[-1]
        data[offset + 24 + (length - 24) // 2] ^= 0x10

        def look():
            # With the lease's own record it is lost whose it was.
            path = "(unknown)" if kind == "lease" else "org/a"
            p.says("lease %d of tenant %s is ended: the batch at offset %d is damaged" % (
                p.a.serial, path, offset))
            p.event(p.s.pb.EVENT_TYPE_LEASE_REVOKED,
                    tenant="" if kind == "lease" else "org/a")
            p.a.is_gone()
            p.b.lives()
            p.has_damaged()

        p.starts(bytes(data), look)
    test.__doc__ = "A bit of a batch with a %s: its lease ends, and no other." % kind
    return test


def flipped_tenant(p):
    """A bit of a tenant's record: limits set by an admin are forgotten, which is told."""
    p.begin()
    p.s.admin.SetLimits(tenant="org/d", limits=[dict(resource="devices", amount=3)])
    p.crash()
    data = bytearray(p.read())
    offset, length, _, _ = [f for f in p.frames() if "tenant" in f[3]][-1]
    data[offset + 24 + (length - 24) // 2] ^= 0x10

    def look():
        p.says("the registry is damaged: 1 records, first: the batch at offset %d" % offset)
        check(usage(p.s, "org/d")["devices"].limit == 2**64 - 1, "the limit")
        p.a.lives()
        p.b.lives()
        p.has_damaged()

    p.starts(bytes(data), look)


def flipped_header_of_a_batch(p):
    """Whose it was cannot be told: every lease ends, and the broker serves."""
    p.begin()
    p.crash()
    data = bytearray(p.read())
    offset, _, _, _ = p.frames()[3]
    data[offset + 9] ^= 1

    def look():
        p.says("what is at offset %d cannot be told" % offset,
               "lease %d of tenant org/a is ended" % p.a.serial,
               "lease %d of tenant org/b is ended" % p.b.serial)
        p.a.is_gone()
        p.b.is_gone()
        p.has_damaged()

    p.starts(bytes(data), look)


def header_destroyed(p):
    """Nothing can be told: everything ends, and the file is kept."""
    p.begin()
    p.crash()
    data = bytearray(p.read())
    data[:4096] = os.urandom(4096)

    def look():
        p.says("nothing of it can be told", "log.damaged")
        p.a.is_gone()
        p.b.is_gone()
        p.has_damaged()

    p.starts(bytes(data), look)


def truncated(n, what):
    def test(p):
        p.begin()
        p.crash()
        data = p.read()[:n]

        def look():
            p.says("nothing of it can be told")
            p.a.is_gone()
            p.b.is_gone()

        p.starts(data, look)
    test.__doc__ = "A log of %d bytes, %s: everything ends." % (n, what)
    return test


def no_file(p):
    """No log, as after somebody deleted it: everything ends, at the keeper too."""
    p.begin()
    for _ in range(3):
        p.crash()
        shutil.rmtree(p.s.server.registry)
        p.start()
        p.s.consistent()
        p.a.is_gone()
        p.b.is_gone()
        check(p.s.kept() == [], "the keeper holds %s", p.s.kept())


def keeper_lost_an_fd(p):
    p.begin()
    p.crash()
    name = "m.%d.%d" % (p.a.serial, p.a.memory)
    p.s.kept("drop", name)

    def look():
        p.says("lease %d of tenant org/a is ended: memory %d: the keeper does not have its fd" % (
            p.a.serial, p.a.memory))
        p.event(p.s.pb.EVENT_TYPE_LEASE_REVOKED, tenant="org/a")
        p.a.is_gone()
        p.b.lives()

    p.starts(p.read(), look)


def keeper_has_another_file(p):
    p.begin()
    p.crash()
    data = p.read()

    def look():
        p.says("memory %d: the keeper has another file for it" % p.a.memory)
        p.a.is_gone()
        p.b.lives()
        p.s.kept("hold", "m.%d.%d" % (p.a.serial, p.a.memory))

    p.s.kept("hold", "m.%d.%d" % (p.a.serial, p.a.memory))
    p.starts(data, look)


def keeper_has_too_many(p):
    """Dropped, and said."""
    p.begin()
    p.crash()
    extra = ["m.%d.999" % p.a.serial, "m.4711.1", "stray"]
    data = p.read()
    for _ in range(3):
        for name in extra:
            p.s.kept("hold", name)
        p.write(data)
        p.start()
        p.says("the keeper held 3 fds that no lease has")
        p.a.lives()
        p.b.lives()
        check(sorted(p.s.kept()) == sorted("m.%d.%d" % (t.serial, t.memory)
                                           for t in (p.a, p.b)), "kept: %s", p.s.kept())
        p.s.kill()
    p.start()


def keeper_is_not_there(p):
    """A start is refused with the reason and touches nothing; when it is there, all is."""
    p.begin()
    p.crash()
    data = p.read()
    path = p.s.server.keeper_socket()
    os.rename(path, path + ".away")
    for _ in range(3):
        p.s.server.spawn()
        code = p.s.server.process.wait(20 * p.s.slow)
        check(code == 1, "exit status %s", code)
        check(p.read() == data, "the registry was written")
        left = glob.glob(p.s.server.run + "/*.sock")
        check(not left, "sockets: %s", left)
    p.says(path + ": ")
    os.rename(path + ".away", path)
    p.start()
    p.a.lives()
    p.b.lives()


def device_unplugged(p):
    """The lease goes on without it, and is told; plugged in again, the device is free."""
    p.begin()
    p.crash()
    without = dict(TOPOLOGY, devices=[d for d in TOPOLOGY["devices"] if d["address"] != A_DEVICE])
    p.s.server._write(p.s.server.topology, without)
    data = p.read()

    def look():
        p.says("device %s is not there any more" % A_DEVICE)
        p.event(p.s.pb.EVENT_TYPE_DEVICE_REMOVED, device=A_DEVICE, tenant="org/a")
        p.a.resume()
        conn = p.a.conn
        check(not conn.ListAttachments().attachments, "attachments: %s", conn.ListAttachments())
        check(usage(p.s, "org/a")["devices"].own == 0, "devices are charged")
        ioasid = conn.GetIoasid(ioasid=p.a.ioasid).ioasid
        check((ioasid.mappings, ioasid.attachments) == (2, 0), "%s", ioasid)
        conn.ClaimDevice(devices=[A_SPARE])
        conn.Attach(device=A_SPARE, ioasid=p.a.ioasid)
        got = conn.DeviceDma(device=A_SPARE, access=p.s.pb.ACCESS_READ, iova=LOW, length=8)
        check(got.data == pattern(8, p.a.seed), "DMA: %s", got)
        conn.ReleaseDevice(devices=[A_SPARE])
        p.b.lives()

    p.starts(data, look)
    p.s.kill()
    p.s.server._write(p.s.server.topology, TOPOLOGY)
    p.start()
    p.a.hung_up()
    p.b.lives()
    device = p.s.admin.GetDevice(device=A_DEVICE).device
    check(device.state == p.s.pb.DEVICE_STATE_FREE, "%s", device)


def without(path, uid):
    changed = policy.default()
    del changed["tenants"][path]
    changed["identities"] = [i for i in changed["identities"] if i.get("uid") != uid]
    return changed


def tenant_removed(p):
    """Its lease stays, charged to a tenant that is orphaned and gets nothing new; who it is is
    decided by the policy, so that its process comes back when the policy has it again."""
    p.begin()
    p.crash()
    p.s.server.write_policy(without("org/a", policy.A))
    data = p.read()

    def look():
        orphan = [t for t in p.s.admin.ListTenants(subtree="org/a").tenants]
        check([(t.path, t.orphaned) for t in orphan] == [("org/a", True)], "%s", orphan)
        check(usage(p.s, "org/a")["ioasids"].own == 1, "its IOASID is not charged")
        lease = [x for x in p.s.admin.ListLeases().leases if x.tenant == "org/a"]
        check(len(lease) == 1 and lease[0].awaited, "%s", lease)
        for method, fields in (("Resume", dict(token=p.a.token)),
                               ("Alloc", dict(kind=p.s.pb.IOASID_KIND_KERNEL))):
            answer = p.a.hung_up().attempt(method, **fields)
            check(getattr(answer, "reason", "") == "NO_TENANT", "%s: %s", method, answer)
        p.b.lives()

    p.starts(data, look)
    p.s.server.write_policy(policy.default())
    p.s.admin.ReloadPolicy()
    p.a.lives()
    p.a.conn.close()
    p.s.until(lambda: not usage(p.s, "org/a")["ioasids"].own, "its lease ends with it")


def limits_lowered(p):
    """What is there stays; there is no more of it until it fits."""
    p.begin()
    p.crash()
    changed = policy.default()
    changed["tenants"]["org/a"]["limits"] = {"ioasids": 0, "devices": 0, "map_entries": 1,
                                             "kept_fds": 0, "registered_bytes": PAGE}
    p.s.server.write_policy(changed)
    data = p.read()

    def look():
        p.a.lives()
        p.b.lives()
        used = usage(p.s, "org/a")
        check((used["ioasids"].own, used["ioasids"].limit) == (1, 0), "%s", used["ioasids"])
        for method, fields in (
                ("Alloc", dict(kind=p.s.pb.IOASID_KIND_KERNEL)),
                ("ClaimDevice", dict(devices=[A_SPARE])),
                ("Map", dict(ioasid=p.a.ioasid,
                             entries=[p.s.entry(HIGH * 2, p.a.memory)]))):
            answer = p.a.conn.attempt(method, **fields)
            check(getattr(answer, "reason", "") == "QUOTA", "%s: %s", method, answer)

    p.starts(data, look)
    p.a.lives()
    p.a.conn.Unmap(ioasid=p.a.ioasid, all=True)
    p.a.conn.Map(ioasid=p.a.ioasid, entries=[p.s.entry(LOW, p.a.memory)])


def no_room_to_connect(p):
    """A limit below what a connection takes: nobody of the tenant gets in, as without a restart;
    its lease waits, with its keys, and it comes back when it may."""
    p.begin()
    p.crash()
    changed = policy.default()
    changed["tenants"]["org/a"]["limits"] = {"broker_bytes": 1}
    p.s.server.write_policy(changed)
    data = p.read()

    def look():
        answer = p.a.hung_up().attempt("Resume", token=p.a.token)
        check(getattr(answer, "reason", "") == "QUOTA", "Resume: %s", answer)
        check(usage(p.s, "org/a")["ioasids"].own == 1, "its IOASID is not charged")
        p.b.lives()

    p.starts(data, look)
    p.s.server.write_policy(policy.default())
    p.s.admin.ReloadPolicy()
    p.a.lives()


def other_boot(p):
    """All of it went with that boot; numbers go on."""
    p.begin()
    p.crash()
    subprocess.run([os.path.join(p.s.build, "tests", "registry_tamper"), p.log, "boot"],
                   check=True)
    data = p.read()

    def look():
        p.says("the registry is of another boot of this machine: 2 leases, gone with it")
        check(p.s.admin.GetStatus().restart.other_boot_leases == 2, "other_boot_leases")
        with open(p.log + ".other-boot", "rb") as f:
            check(f.read() == data, "log.other-boot is not the log of the other boot")
        p.a.is_gone()
        p.b.is_gone()
        p.a.conn.OpenLease(name="later")
        later = max(lease.serial for lease in p.s.admin.ListLeases().leases)
        check(later > max(p.a.serial, p.b.serial), "serial %d again", later)

    p.starts(data, look)


def newer_release(p):
    """Both directions with real brokers: the newer one reads what this one wrote; this one
    refuses what the newer one wrote, before it touches anything."""
    p.begin()
    p.crash()
    p.s.start(daemon="ioasidd_newer")
    p.a.lives()
    p.b.lives()
    p.a.token, p.b.token = p.a.last_token, p.b.last_token
    p.crash()
    data, kept = p.read(), p.s.kept()
    p.s.server.daemon = "ioasidd"
    for _ in range(3):
        p.s.server.spawn()
        code = p.s.server.process.wait(20 * p.s.slow)
        check(code == 1, "exit status %s", code)
        check(p.read() == data, "the registry was written")
        left = glob.glob(p.s.server.run + "/*.sock")
        check(not left, "sockets: %s", left)
        check(p.s.kept() == kept, "the keeper was asked to drop something")
    written = struct.unpack_from("<I", data, len(b"ioasidrg"))[0]
    p.says("the log was written by a newer release (schema %d; this one knows %d)" %
           (written, written - 1))
    p.s.start(daemon="ioasidd_newer")
    p.a.lives()
    p.b.lives()


def upgrade(p):
    """An orderly end, and a newer release's program in its place: how long calls wait."""
    p.begin()
    began = time.monotonic()
    code = p.s.server.terminate()
    check(code == 0, "exit status %s", code)
    ended = time.monotonic()
    p.s.start(daemon="ioasidd_newer")
    p.s.admin.GetStatus()
    print("upgrade: calls waited %d ms, %d of them for the old program's end" % (
        (time.monotonic() - began) * 1000, (ended - began) * 1000), flush=True)
    p.a.lives()
    p.b.lives()


def second_broker(p):
    """One that is started beside it is refused, and disturbs nobody."""
    p.begin()
    first = p.s.server.process
    p.since = p.s.log_size()
    p.s.server.spawn()
    code = p.s.server.process.wait(20 * p.s.slow)
    p.s.server.process = first
    check(code == 1, "exit status %s", code)
    p.says("another process has the registry open")
    p.a.reads()
    p.b.reads()


def compaction(step, n):
    def test(p):
        """A kill in the middle of a compaction."""
        p.s.start("compact:%s:%d" % (step, n))
        p.a = Tenant(p.s, policy.A, "org/a", [A_DEVICE, A_SPARE], 3)
        p.b = Tenant(p.s, policy.B, "org/b", [B_DEVICE], 4)
        p.s.fill(p.a.conn, p.a.ioasid, p.a.memory, 3000)
        p.s.arm()
        other = p.s.alloc(p.a.conn)
        entries = [p.s.entry(0x10000000 + 2 * PAGE * i, p.a.memory) for i in range(1000)]
        for turn in range(200):
            last = dict(ioasid=other, entries=entries, key="map %d" % turn)
            answer = p.a.conn.attempt("Map", **last)
            if isinstance(answer, Refused):
                break
            last = dict(ioasid=other, all=True, key="unmap %d" % turn)
            answer = p.a.conn.attempt("Unmap", **last)
            if isinstance(answer, Refused):
                break
        check(p.s.died(5), "no compaction came")
        p.start()
        p.b.lives()
        p.a.lives()
        p.s.consistent()
        check(p.a.conn.GetIoasid(ioasid=p.a.ioasid).ioasid.mappings == 3002, "mappings")
        again = p.a.conn.attempt("Map" if "entries" in last else "Unmap", **last)
        check(not isinstance(again, Refused), "%s", again)
        left = p.a.conn.GetIoasid(ioasid=other).ioasid.mappings
        check(left == (1000 if "entries" in last else 0), "%d mappings", left)
        p.s.consistent()
    test.__doc__ = "Killed at %s of a compaction." % step
    return test


def tmpfs_full(p):
    """No room: what is new is refused by that name and has changed nothing, what gives back goes
    on, a start goes on; when there is room again all does."""
    s = p.s
    folder = s.server.registry
    os.makedirs(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700,uid=%d,gid=%d" % (
        SERVER_UID, SERVER_UID), "tmpfs", folder], check=True)
    try:
        p.begin()
        spoil = os.path.join(folder, "spoil")
        with open(spoil, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError:
                pass
        refused = None
        other = s.alloc(p.a.conn)
        for n in range(400):
            before = p.s.overview()
            refused = p.a.conn.attempt("Map", ioasid=other, entries=[
                s.entry(0x10000000 + 2 * PAGE * (1000 * n + i), p.a.memory)
                for i in range(1000)])
            if isinstance(refused, Refused):
                break
        check(isinstance(refused, Refused), "it is never full")
        mapped = p.a.conn.GetIoasid(ioasid=other).ioasid.mappings
        check((refused.code, refused.reason) == ("UNAVAILABLE", "REGISTRY_FULL"), "%s", refused)
        check("registry" in refused.message, "%s", refused)
        check(not difference(before, s.overview()), "a refused call: %s",
              difference(before, s.overview()))
        _until_refused(p)
        check(mapped == p.a.conn.GetIoasid(ioasid=other).ioasid.mappings, "mappings")
        s.consistent()
        # A start on the full file system.
        p.crash()
        p.start()
        p.a.lives()
        p.b.lives()
        s.consistent()
        _give_back(p, other)
        os.unlink(spoil)
        s.alloc(p.a.conn)
        again = p.a.conn.attempt("OpenLease", name="room", key="k")
        check(not isinstance(again, Refused), "with room again: %s", again)
        p.a.conn.CloseLease()
        p.b.token = p.b.last_token
        p.crash()
        p.start()
        p.b.lives()
        s.consistent()
        p.b.conn.CloseLease()
    finally:
        s.server.process.kill()
        s.server.process.wait()
        subprocess.run(["umount", folder], check=True)


def _until_refused(p):
    """Each method that makes something, down to the smallest."""
    for method, fields in (
            ("Alloc", dict(kind=p.s.pb.IOASID_KIND_KERNEL)),
            ("ClaimDevice", dict(devices=[A_SPARE])),
            ("Map", dict(ioasid=p.b.ioasid, entries=[p.s.entry(HIGH * 4, p.b.memory)])),
            ("OpenLease", dict(name="more"))):
        before = made = 0
        for before in range(5000):
            conn = p.b.conn if method == "Map" else p.a.conn
            if method == "Map":
                fields["entries"][0]["iova"] += 2 * PAGE
            if method == "OpenLease":
                fields["name"] = "more%d" % before
            answer = conn.attempt(method, **fields)
            if isinstance(answer, Refused):
                break
            made += 1
            if method == "ClaimDevice":
                conn.ReleaseDevice(devices=[A_SPARE])
        check(getattr(answer, "reason", "") == "REGISTRY_FULL", "%s after %d: %s", method, made,
              answer)


def _give_back(p, other):
    for method, fields in (
            ("Unmap", dict(ioasid=p.a.ioasid, ranges=[dict(iova=HIGH, length=2 * PAGE)])),
            ("Unmap", dict(ioasid=other, all=True)),
            ("Detach", dict(device=A_DEVICE)), ("ReleaseDevice", dict(devices=[A_DEVICE])),
            ("Free", dict(ioasid=other)), ("Free", dict(ioasid=p.a.ioasid)),
            ("UnregisterMemory", dict(memory=p.a.memory))):
        answer = p.a.conn.attempt(method, key="%s %d" % (method, fields.get("ioasid", 0)), **fields)
        check(not isinstance(answer, Refused), "%s on a full file system: %s", method, answer)


TESTS = {
    "torn tail": torn_tail, "half written": half_written,
    **{"flipped " + kind: flipped(kind) for kind in KINDS},
    "flipped tenant": flipped_tenant, "flipped header of a batch": flipped_header_of_a_batch,
    "header destroyed": header_destroyed, "empty log": truncated(0, "empty"),
    "cut in its header": truncated(1000, "cut in its header"), "no file": no_file,
    "tmpfs full": tmpfs_full,
    "keeper lost an fd": keeper_lost_an_fd, "keeper has another file": keeper_has_another_file,
    "keeper has too many": keeper_has_too_many, "keeper is not there": keeper_is_not_there,
    "device unplugged": device_unplugged, "tenant removed": tenant_removed,
    "limits lowered": limits_lowered, "no room to connect": no_room_to_connect, "other boot": other_boot, "newer release": newer_release,
    "upgrade": upgrade,
    "second broker": second_broker,
    "compaction begin": compaction("begin", 1), "compaction slice": compaction("slice", 2),
    "compaction commit": compaction("commit", 1),
}


def _worker(api, options, jobs, results):
    from support.orphan import die_with_parent
    die_with_parent()
    for name in iter(jobs.get, None):
        began, wrong, play = time.monotonic(), "", Play(api, options)
        try:
            TESTS[name](play)
        except Exception:
            wrong = traceback.format_exc() + "\nthe brokers' log:\n" + play.s.said(
                getattr(play, "since", 0))[-3000:]
        problems = play.s.end()
        # A broker that a test left killed is none that ended badly.
        if not wrong and problems:
            wrong = "; ".join(problems)
        results.put((name, wrong, time.monotonic() - began))


def run(api, options):
    names = [n for n in TESTS if all(k in n for k in options.k)]
    if options.list:
        print("\n".join(names))
        return 0, 0
    fork = multiprocessing.get_context("fork")
    jobs, results = fork.Queue(), fork.Queue()
    for name in names + [None] * options.j:
        jobs.put(name)
    workers = [fork.Process(target=_worker, args=(api, options, jobs, results))
               for _ in range(options.j)]
    for w in workers:
        w.start()
    failed = 0
    for _ in names:
        try:
            name, wrong, seconds = results.get(timeout=120 * options.slow)
        except Exception:
            print("FAIL stores: a worker says nothing any more")
            for w in workers:
                w.kill()
            return len(names) - failed - 1, failed + 1
        failed += bool(wrong)
        if wrong:
            print("FAIL %s\n%s\n" % (name, wrong), flush=True)
        elif options.v:
            print("ok   %s (%.1f s)" % (name, seconds), flush=True)
    for w in workers:
        w.join()
    return len(names) - failed, failed
