# SPDX-License-Identifier: Apache-2.0
"""The bounds that docs/integrations/kubernetes.md states: n goes, n + 1 is refused and said."""
import time

import grpc

from checks import check, equal, refused
from node import ACC, IOAS, N_ACC, NIC, NVME

SERVICE = "/v1beta1.DevicePlugin/"
STARTS = CALLS = 64
CONNECTIONS = 16
MESSAGE = 1 << 20
ANSWER = 16 << 20


class Bounds:
    def begin(self, channel, pod):
        """A start that is under way."""
        request = self.kubelet.pb.PreStartContainerRequest(devices_ids=pod.ids)
        return channel.unary_unary(SERVICE + "PreStartContainer").future(
            request.SerializeToString(), timeout=60)

    @staticmethod
    def failures(futures):
        return [f.exception() for f in futures if f.exception()]

    def options(self, channel):
        """None, or the refusal."""
        try:
            channel.unary_unary(SERVICE + "GetDevicePluginOptions")(b"", timeout=5)
            return None
        except grpc.RpcError as error:
            return "%s: %s" % (error.code().name, error.details())

    def test_bound_starts(self):
        """64 starts wait, of all resources together; all of them go when their pods are known."""
        spaces, nic = self.kubelet.admit("web", "a", IOAS), self.kubelet.admit("web", "b", NIC)
        other = self.kubelet.admit("web", "c", NVME)
        self.kubelet.forgets_until = time.monotonic() + 2.5
        waiting = [self.begin(self.kubelet.endpoints[p.resource].channel, p)
                   for p, n in ((spaces, STARTS - 20), (nic, 20)) for _ in range(n)]
        time.sleep(1)
        equal([f for f in waiting if f.done()], [])
        text = refused("RESOURCE_EXHAUSTED", self.kubelet.start_container, other)
        equal(text, "ioasid: too many containers start at once")
        equal(self.failures(waiting), [])
        equal(len(self.node.leases()), 2)
        self.kubelet.start_container(other)

    def test_bound_calls(self):
        """64 calls of a resource, its stream among them, whatever connections they come by."""
        endpoint = self.kubelet.endpoints[IOAS]
        pod, second = self.kubelet.admit("web", "a", IOAS), endpoint.another()
        self.kubelet.forgets_until = time.monotonic() + 2.5
        waiting = [self.begin(endpoint.channel, pod) for _ in range(CALLS - 2)]
        time.sleep(0.5)
        equal(self.options(second), None, "the last call")
        waiting.append(self.begin(endpoint.channel, pod))
        time.sleep(0.5)
        equal(self.options(second), "RESOURCE_EXHAUSTED: too many calls at once")
        equal(self.options(self.kubelet.endpoints[NIC].channel), None, "another resource")
        equal(self.failures(waiting), [])
        equal(self.options(second), None, "afterwards")
        second.close()

    def test_bound_connections(self):
        """16 of a resource; the next is closed and said, and there is room when one ends."""
        endpoint = self.kubelet.endpoints[NIC]
        said = "ioasid.io/nic: too many connections"
        channels = [endpoint.another() for _ in range(CONNECTIONS - 1)]
        equal([e for e in map(self.options, channels) if e], [])
        before = self.node.said().count(said)
        extra = endpoint.another()
        check((self.options(extra) or "").startswith("UNAVAILABLE"))
        extra.close()
        check(self.node.said().count(said) > before, "not said")
        equal(self.options(channels[0]), None)
        channels.pop().close()

        def room():
            channel = endpoint.another()
            channels.append(channel)
            return self.options(channel) is None
        check(self.node.wait(room), "no room")
        for channel in channels:
            channel.close()

    def test_bound_devices(self):
        """A container has 64 devices of a resource and not 65."""
        ids = sorted(self.kubelet.endpoints[ACC].devices())
        equal(len(ids), N_ACC)
        text = refused("INVALID_ARGUMENT", self.kubelet.admit, "web", "a", ACC, ids=ids)
        equal(text, "more than 64 devices for one container")
        pod = self.kubelet.run("web", "a", ACC, ids=ids[:64])
        equal(len(self.node.claimed()), 64)
        lease = self.node.lease_of(pod)
        equal(len(lease["devices"]), 64)
        status, out = self.node.ioasidctl(pod, "ioasid", "alloc", "--devices",
                                          ",".join(lease["devices"]))
        equal(status, 0, out)

    def test_bound_containers(self):
        """An Allocate for 64 containers and not for 65."""
        endpoint, ids = self.kubelet.endpoints[ACC], sorted(self.kubelet.free_ids(ACC))
        for n in (64, 65):
            request = self.kubelet.pb.AllocateRequest()
            for i in ids[:n]:
                request.container_requests.add(devices_ids=[i])
            if n == 64:
                answer = endpoint.call("Allocate", request, self.kubelet.pb.AllocateResponse)
                equal(len(answer.container_responses), 64)
            else:
                text = refused("INVALID_ARGUMENT", endpoint.call, "Allocate", request,
                               self.kubelet.pb.AllocateResponse)
                equal(text, "more containers than one request may have")

    def test_bound_message(self):
        """A request of 1 MiB is read, and refused for what it says; a longer one is not read."""
        endpoint = self.kubelet.endpoints[NIC]
        request = self.kubelet.pb.AllocateRequest()
        # Tags and lengths of the two messages around the id.
        request.container_requests.add(devices_ids=["x" * (MESSAGE - 8)])
        equal(request.ByteSize(), MESSAGE)
        text = refused("INVALID_ARGUMENT", endpoint.call, "Allocate", request,
                       self.kubelet.pb.AllocateResponse)
        check("is none of this resource" in text, text)
        request.container_requests[0].devices_ids[0] += "x"
        text = refused("RESOURCE_EXHAUSTED", endpoint.call, "Allocate", request,
                       self.kubelet.pb.AllocateResponse)
        check("larger than max" in text, text)

    def test_bound_pods(self):
        """PodResources of just under 16 MiB are read; longer ones start and release nothing."""
        pod = self.kubelet.admit("web", "a", IOAS)
        other = self.kubelet.admit("web", "b", IOAS)
        try:
            self.kubelet.padding = ANSWER - 4096
            self.kubelet.start_container(pod)
            self.kubelet.padding = ANSWER
            text = refused("UNAVAILABLE", self.kubelet.start_container, other)
            check("the kubelet does not tell who this is" in text and "larger" in text, text)
            self.kubelet.delete(pod)
            time.sleep(4)
            equal(len(self.node.leases()), 1)
        finally:
            self.kubelet.padding = 0
