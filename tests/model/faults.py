# SPDX-License-Identifier: Apache-2.0
"""Devices that ask for a page and wait, in the model test.

Now and then, between rounds, a device of each of several tenants does a DMA that must wait; they
wait at the same time.  The lease's stream of faults must tell the request, with the number that the
model counted (every blocked access and every request is one, from the first stream on), and the device must still be waiting.
Then one after the other comes to its end: answered SUCCESS after the tenant cured its table, or
without that, which makes it ask again; INVALID; by nobody; or what it waits at goes: the IOASID, the
attachment, the device.
"""

import time

import ioasid_pb2 as pb
from client import Connection
from model import Place

TIMEOUT_MS = 1500  # of the broker, for an answer
STEP_EVERY = 12  # rounds
NOBODY = 0.988
SUCCESS, INVALID = pb.FAULT_RESPONSE_CODE_SUCCESS, pb.FAULT_RESPONSE_CODE_INVALID


class Waiting:
    """A DMA that waits."""

    def __init__(self, lane, plan, space, own):
        self.lane = lane
        self.plan = plan
        self.space = space
        self.own = own or space  # that the fault is told of: the PASID's own, if it has one
        self.detached = own is not None  # by its PASID, or else by the device's own attachment
        self.connection = lane.owner.connections[lane.slot]
        self.watch = self.future = self.cookie = None
        self.roll = lane.rng.random()  # how it ends
        self.asked = 0  # page requests
        self.since = 0


class Faults:
    """Part of the test (driver.Test)."""

    def fault_step(self):
        for lane in self.lanes():
            if lane.lease and not lane.lease.watched and lane.rng.random() < 0.5:
                if any(s.faults for s in lane.lease.ioasids.values()):
                    self._first_watch(lane)
        entries = []
        for owner in self.owners:
            lanes = [lane for lane in owner.lanes if lane.slot is not None and lane.lease and lane.thirsty]
            self.rng.shuffle(lanes)
            found = next(filter(None, (self._thirsty(lane) for lane in lanes)), None)
            if found:
                entries.append(found)
        if not entries:
            return
        base = self.admin.call("GetStatus", pb.GetStatusRequest()).response.registry_generation << 32
        for w in entries:
            self._watch(w, base)
            w.plan.admitted()
            w.future = w.connection.start("DeviceDma", w.plan.request)
            w.since = time.monotonic()
        for w in entries:
            self._asked(w, base)
        self.rng.shuffle(entries)
        entries.sort(key=lambda w: w.roll > NOBODY)  # or the time of the others would be over
        for w in entries:
            self._resolve(w, base)
            w.watch.call.cancel()

    def _first_watch(self, lane):
        """From then on there is a log, and devices wait for answers."""
        request = pb.WatchFaultsRequest()
        request.scope.lease = lane.name
        stream = lane.owner.connections[lane.slot].stream("WatchFaults", request)
        after = pb.ListMemoryRequest()  # one lease's requests are done in their order
        after.scope.lease = lane.name
        self._alone(lane.owner, lane.slot, "ListMemory", after)
        stream.call.cancel()
        lane.lease.watched = True

    def _thirsty(self, lane):
        """A DMA of this lane of which it is certain that it waits."""
        request = lane.thirsty.pop()
        lane.thirsty.clear()
        plan = self.world.plan("DeviceDma", lane.lease, request)
        key = (request.device, request.pasid.value if request.HasField("pasid") else 0)
        if plan.refusals or plan.unclear or not plan.waits:
            return None
        if any(len(ends) != 1 for _, _, ends in plan.pages):
            return None
        for _, _, (end,) in plan.pages:
            # What it reads or writes is not what the cure changes.
            if isinstance(end, Place) and end.memory.file is lane.tables:
                return None
        return Waiting(lane, plan, self.world.goes_by(lane.lease, *key), lane.lease.attachments.get(key))

    def _watch(self, w, base):
        lane, rng = w.lane, w.lane.rng
        n = lane.lease.n_faults
        back = min(n - 1, rng.randrange(6)) if n and rng.random() < 0.3 else 0
        request = pb.WatchFaultsRequest(after_sequence=base + n - back)
        if not back and rng.random() < 0.5 and not w.own.freed:
            request.ioasid = w.own.id
        request.scope.lease = lane.name
        if rng.random() < 0.1:
            wrong = pb.WatchFaultsRequest(after_sequence=base + n + 1 + rng.randrange(3))
            wrong.scope.lease = lane.name
            self._alone_stream(lane, "WatchFaults", wrong, ["INVALID_FIELD"])
        w.watch = w.connection.stream("WatchFaults", request)
        for i in range(back):
            event = next(w.watch.call)
            if (event.sequence, event.lost) != (base + n - back + 1 + i, 0):
                self.diverge(lane.label, "WatchFaults", request, f"number {base + n - back + 1 + i}", event, "old faults")

    def _alone_stream(self, lane, method, request, refusal):
        answer = Connection.finish(lane.owner.connections[lane.slot].stream(method, request))
        self.n += 1
        self.tally[f"{method} {answer.outcome}"] += 1
        if answer.reason not in refusal:
            self.diverge(lane.label, method, request, refusal, answer, "another outcome")

    def _asked(self, w, base):
        """The stream must tell the request."""
        lane, request = w.lane, w.plan.request
        end = w.plan.pages[-1][2][0]
        try:
            event = next(w.watch.call)
        except Exception as error:  # of grpc: any end of the stream
            said = Connection.finish(w.future) if w.future.done() else "nothing"
            self.diverge(lane.label, "DeviceDma", request, f"a page request: {end.key()}", f"{said} {error}", "not asked")
        w.asked += 1
        expected = (
            base + lane.lease.n_faults + w.asked, 0, request.device, request.pasid.value,
            (end.cause, end.stage, end.address, request.access), True, True,
        )  # fmt: skip
        f = event.fault
        seen = (
            event.sequence, event.lost, event.device, event.pasid.value,
            (f.cause, f.stage, f.address, f.access), event.last, 0 < event.deadline_ms <= TIMEOUT_MS * self.slow,
        )  # fmt: skip
        if seen != expected or not event.cookie or event.cookie == w.cookie:
            self.diverge(lane.label, "WatchFaults", request, expected, event, "another page request")
        if not w.own.freed and event.ioasid != w.own.id:
            self.diverge(lane.label, "WatchFaults", request, w.own.id, event, "another IOASID")
        if w.future.done():
            self.diverge(lane.label, "DeviceDma", request, "it waits", Connection.finish(w.future), "it did not wait")
        w.cookie = event.cookie
        self.n += 1
        self.tally["  page request"] += 1

    # -- how it ends --

    def _resolve(self, w, base):
        lane, rng = w.lane, w.lane.rng
        if rng.random() < 0.2:
            self._nonsense(w)
        roll = w.roll
        cured = roll < 0.4 and self._cure(w)
        if roll < 0.55 and self.world.plan("DeviceDma", lane.lease, w.plan.request).unclear:
            roll = 0.6  # where it would go on to nobody can say
        if roll < 0.55 and cured:
            self._answer(w, SUCCESS)
            self._again_or_done(w, base, "cured")
        elif roll < 0.55:
            self._answer(w, SUCCESS)
            self._again_or_done(w, base, "not cured")
        elif roll < 0.8:
            self._answer(w, INVALID)
            self._ended(w, "INVALID")
        elif roll < NOBODY:
            self._take_away(w)
        else:
            self._ended(w, "nobody answered")
            if time.monotonic() - w.since < TIMEOUT_MS * self.slow / 1000 * 0.95:
                self.diverge(lane.label, "DeviceDma", w.plan.request, "the time-out", "earlier", "nobody answered")

    def _late(self, w):
        """The answer may have come too late on a machine that is busy."""
        return time.monotonic() - w.since > TIMEOUT_MS * self.slow / 1000 * 0.8

    def _answer(self, w, code):
        request = pb.RespondFaultRequest(cookie=w.cookie, code=code)
        request.scope.lease = w.lane.name
        answer = w.connection.call("RespondFault", request)
        self.n += 1
        self.tally[f"RespondFault {answer.outcome}"] += 1
        w.answered = answer.code == "OK"
        if answer.code != "OK" and not (answer.reason == "NOT_FOUND" and self._late(w)):
            self.diverge(w.lane.label, "RespondFault", request, "OK", answer, "refused")

    def _nonsense(self, w):
        """Answers that are none."""
        other = self.rng.choice(self.owners)
        for owner, slot, lease, cookie, code, refusal in (
            (w.lane.owner, w.lane.slot, w.lane.name, w.cookie + 1000, SUCCESS, "NOT_FOUND"),
            (w.lane.owner, w.lane.slot, w.lane.name, 0, SUCCESS, "INVALID_FIELD"),
            (w.lane.owner, w.lane.slot, w.lane.name, w.cookie, 0, "INVALID_FIELD"),
            (other, 0, "", w.cookie, SUCCESS, "NOT_FOUND"),
        ):
            lane = other.lanes[0]
            if lease == "" and owner is other and (lane is w.lane or lane.lease is None):
                continue
            request = pb.RespondFaultRequest(cookie=cookie, code=code)
            request.scope.lease = lease
            self._alone(owner, slot, "RespondFault", request, [refusal])

    def _cure(self, w):
        """The tenant puts a page where the device wants one; False: it cannot."""
        end, space = w.plan.pages[-1][2][0], w.space
        for _ in range(end.stage - 1):
            space = space.parent
        if space.kind == pb.IOASID_KIND_USER:
            return space.table is not None and self.scribe.cure(w.lane, space, end.address)
        wish = self.generator.cure(w.lane, space, end.address)
        if wish is None:
            return False
        method, request = wish
        request.scope.lease = w.lane.name
        plan = self.world.plan(method, w.lane.lease, request)
        if plan.refusals or not self.world.quota.fits(w.lane.owner.path, plan.charges, {}):
            return False
        plan.commit(self._alone(w.lane.owner, w.lane.slot, method, request))
        return True

    def _again_or_done(self, w, base, what):
        """It was told to go on."""
        if not w.answered:
            self._ended(w, "too late")
            return
        plan = self.world.plan("DeviceDma", w.lane.lease, w.plan.request)
        plan.admitted()
        if any(len(ends) != 1 for _, _, ends in plan.pages):
            # The caches have a say in it; whichever it is, it ends when nobody waits any more.
            self._finish_either(w, plan)
            return
        w.plan = plan
        if plan.waits:
            w.since = time.monotonic()
            self._asked(w, base)
            self._answer(w, INVALID)
        self._ended(w, f"{what}, and {'asked again' if plan.waits else 'went on'}")

    def _finish_either(self, w, plan):
        """Answers INVALID whatever it asks."""
        while not w.future.done():
            time.sleep(0.002)
            # Numbers of requests grow by one; nobody else asks just now, or it is answered soon.
            request = pb.RespondFaultRequest(cookie=w.cookie + 1, code=INVALID)
            request.scope.lease = w.lane.name
            w.connection.call("RespondFault", request)
        answer = Connection.finish(w.future)
        self.n += 1
        if answer.code != "OK" or plan.check(answer.response):
            wrong = answer.code == "OK" and plan.check(answer.response)
            self.diverge(w.lane.label, "DeviceDma", plan.request, plan.expectation(), answer, wrong or "refused")
        asked_again = answer.response.HasField("fault")
        before = w.lane.lease.n_faults
        plan.commit(answer.response)
        w.lane.lease.n_faults = before + w.asked + asked_again
        self.tally["  page request: either"] += 1

    def _take_away(self, w):
        lane, request = w.lane, w.plan.request
        kind = lane.rng.choice(("Free", "Detach", "ReleaseDevice"))
        if kind == "Free" and w.own.freed:
            kind = "Detach"
        if kind == "Free":
            undo = pb.FreeRequest(ioasid=w.own.id)
            lane.retired.append(w.own.id)
        elif kind == "Detach":
            undo = pb.DetachRequest(device=request.device)
            if request.HasField("pasid") and w.detached:
                undo.pasid.value = request.pasid.value
        else:
            undo = pb.ReleaseDeviceRequest(devices=[request.device])
        undo.scope.lease = lane.name
        plan = self.world.plan(kind, lane.lease, undo)
        response = self._alone(lane.owner, lane.slot, kind, undo)
        wrong = plan.check(response)
        if wrong:
            self.diverge(lane.label, kind, undo, "", response, wrong)
        self._ended(w, kind)
        plan.commit(response)

    def _ended(self, w, what):
        """It is over, with what it had when it asked for the last time."""
        answer = Connection.finish(w.future)
        self.n += 1
        wrong = w.plan.judge(answer)
        if wrong:
            self.diverge(w.lane.label, "DeviceDma", w.plan.request, f"{what}: {w.plan.expectation()}", answer, wrong)
        before = w.lane.lease.n_faults
        w.plan.commit(answer.response)
        # The broker's log has the requests; that they failed is not told again.
        blocked = answer.response.HasField("fault") and not w.plan.waits
        w.lane.lease.n_faults = before + w.asked + blocked
        self.recent.append((self.n, w.lane.label, "(DMA that waited)", w.plan.request, answer))
        self.tally[f"  page request: {what}"] += 1
