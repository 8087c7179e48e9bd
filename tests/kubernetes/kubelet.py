# SPDX-License-Identifier: Apache-2.0
"""
A kubelet as far as a device plugin sees one, in the order that a real one was seen to call:
Register (which dials the plugin back before it answers), ListAndWatch, GetPreferredAllocation,
Allocate, PreStartContainer; PodResources beside it.  A start deletes every socket in the folder.

Pods outlive it, as they do on a node, and so does which ids they have.
"""
import concurrent.futures
import importlib
import os
import socket
import subprocess
import sys
import threading
import time

import grpc

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "integrations",
                     "kubernetes", "proto")
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


def messages(folder):
    for name in ("deviceplugin", "podresources"):
        subprocess.run(["protoc", "-I" + PROTO, "--python_out=" + folder,
                        os.path.join(PROTO, name + ".proto")], check=True)
    sys.path.insert(0, folder)
    return (importlib.import_module("deviceplugin_pb2"),
            importlib.import_module("podresources_pb2"))


class Refused(Exception):
    """What becomes the pod's event."""

    def __init__(self, error):
        super().__init__("%s: %s" % (error.code().name, error.details()))
        self.code, self.text = error.code().name, error.details()


class Pod:
    def __init__(self, namespace, name, container, resource, ids, answer):
        self.namespace, self.name, self.container = namespace, name, container
        self.resource, self.ids, self.answer = resource, sorted(ids), answer

    @property
    def folder(self):
        return self.answer.mounts[0].host_path


class Endpoint:
    """One registered resource: the connection back, and the newest list."""

    def __init__(self, kubelet, path, request):
        self.pb, self.request, self.path = kubelet.pb, request, path
        self.lists, self.changed, self.ended = [], threading.Condition(), False
        self.channel = grpc.insecure_channel("unix:" + path, OPTIONS)
        grpc.channel_ready_future(self.channel).result(timeout=3)

    def another(self):
        """One more connection to it."""
        return grpc.insecure_channel("unix:" + self.path, OPTIONS)

    def call(self, name, request, answer, timeout=30):
        call = self.channel.unary_unary("/v1beta1.DevicePlugin/" + name)
        try:
            return answer.FromString(call(request.SerializeToString(), timeout=timeout))
        except grpc.RpcError as error:
            raise Refused(error) from None

    def watch(self):
        stream = self.channel.unary_stream("/v1beta1.DevicePlugin/ListAndWatch")(b"")

        def read():
            try:
                for data in stream:
                    with self.changed:
                        self.lists.append(self.pb.ListAndWatchResponse.FromString(data))
                        self.changed.notify_all()
            except grpc.RpcError:
                pass
            with self.changed:
                self.ended = True
                self.changed.notify_all()
        threading.Thread(target=read, daemon=True).start()

    def devices(self):
        with self.changed:
            return {d.ID: d for d in self.lists[-1].devices} if self.lists and not self.ended \
                else {}

    def wait(self, test, seconds=10):
        """Until the newest list passes the test."""
        end = time.monotonic() + seconds
        with self.changed:
            while not (self.lists and not self.ended and
                       test({d.ID: d for d in self.lists[-1].devices})):
                if not self.changed.wait(end - time.monotonic()) and time.monotonic() >= end:
                    return False
        return True


class Kubelet:
    def __init__(self, folder, pb, pods_pb):
        self.folder = os.path.join(folder, "dp")
        self.pod_resources = os.path.join(folder, "pod-resources.sock")
        self.pb, self.pods_pb = pb, pods_pb
        self.pods, self.endpoints, self.registrations = {}, {}, []
        self.lock, self.registered = threading.RLock(), threading.Condition()
        self.server = self.pod_server = None
        # Until then List leaves every pod out, as one that has just started does.
        self.forgets_until = 0
        # Bytes that List says beside what there is.
        self.padding = 0
        os.makedirs(self.folder, exist_ok=True)

    # ---- life

    def _serve(self, path, service, method, handler):
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
            service, {method: grpc.unary_unary_rpc_method_handler(handler)})])
        server.add_insecure_port("unix:" + path)
        server.start()
        return server

    def start(self, deletes=True):
        for name in os.listdir(self.folder):
            if deletes or name == "kubelet.sock":
                os.unlink(os.path.join(self.folder, name))
        with self.registered:
            self.endpoints = {}
        self.pod_server = self._serve(self.pod_resources, "v1.PodResourcesLister", "List",
                                      self._list)
        self.server = self._serve(os.path.join(self.folder, "kubelet.sock"),
                                  "v1beta1.Registration", "Register", self._register)

    def stop(self):
        for server in (self.server, self.pod_server):
            if server:
                server.stop(0).wait()
        self.server = self.pod_server = None
        for endpoint in self.endpoints.values():
            endpoint.channel.close()

    def _register(self, data, context):
        request = self.pb.RegisterRequest.FromString(data)
        endpoint = Endpoint(self, os.path.join(self.folder, request.endpoint), request)
        endpoint.watch()
        with self.registered:
            self.registrations.append(request)
            self.endpoints[request.resource_name] = endpoint
            self.registered.notify_all()
        return self.pb.Empty().SerializeToString()

    def _list(self, data, context):
        answer = self.pods_pb.ListPodResourcesResponse()
        with self.lock:
            if time.monotonic() < self.forgets_until:
                return answer.SerializeToString()
            of = {}
            for pod in self.pods.values():
                p = of.get((pod.namespace, pod.name)) or answer.pod_resources.add(
                    name=pod.name, namespace=pod.namespace)
                of[pod.namespace, pod.name] = p
                c = p.containers.add(name=pod.container)
                c.devices.add(resource_name=pod.resource, device_ids=pod.ids)
            if self.padding:
                answer.pod_resources.add(name="x" * self.padding, namespace="web")
        return answer.SerializeToString()

    def wait_registered(self, names, seconds=10):
        with self.registered:
            return self.registered.wait_for(lambda: set(names) <= set(self.endpoints), seconds)

    # ---- pods

    def free_ids(self, resource):
        with self.lock:
            used = {i for p in self.pods.values() if p.resource == resource for i in p.ids}
        return sorted(i for i, d in self.endpoints[resource].devices().items()
                      if d.health == "Healthy" and i not in used)

    def prefer(self, resource, available, n, must=()):
        request = self.pb.PreferredAllocationRequest()
        request.container_requests.add(available_deviceIDs=available,
                                       must_include_deviceIDs=must, allocation_size=n)
        answer = self.endpoints[resource].call("GetPreferredAllocation", request,
                                               self.pb.PreferredAllocationResponse)
        return list(answer.container_responses[0].deviceIDs)

    def admit(self, namespace, name, resource, n=1, ids=None, container="main"):
        """The pod has ids and what Allocate said; None: the node has not so many."""
        free = self.free_ids(resource)
        if ids is None:
            if len(free) < n:
                return None
            ids = self.prefer(resource, free, n)
        request = self.pb.AllocateRequest()
        request.container_requests.add(devices_ids=ids)
        answer = self.endpoints[resource].call("Allocate", request, self.pb.AllocateResponse)
        pod = Pod(namespace, name, container, resource, ids, answer.container_responses[0])
        self.add(pod)
        return pod

    def add(self, pod):
        with self.lock:
            self.pods[pod.namespace, pod.name, pod.container] = pod

    def start_container(self, pod, timeout=30):
        request = self.pb.PreStartContainerRequest(devices_ids=pod.ids)
        self.endpoints[pod.resource].call("PreStartContainer", request, self.pb.Empty, timeout)

    def run(self, namespace, name, resource, n=1, **more):
        pod = self.admit(namespace, name, resource, n, **more)
        if pod:
            self.start_container(pod)
        return pod

    def delete(self, pod):
        with self.lock:
            self.pods.pop((pod.namespace, pod.name, pod.container), None)


def leave_socket(path):
    """The file of a socket that nobody serves."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
