# SPDX-License-Identifier: Apache-2.0
"""
The typed client: messages compiled from the .proto, connections that live in an actor.

    conn.Alloc(kind=KERNEL, lease="l")      # a response, or Refused
    conn.many([("Alloc", {...}), ...])      # all in flight at once
    conn.watch("WatchEvents", types=[...])  # a stream

A keyword that is no field of the request goes into its Scope (lease, tenant, key).
"""
import importlib
import os
import re
import subprocess
import sys

from .status import Refused

PROTO = os.path.join(os.path.dirname(__file__), "..", "..", "..", "proto")
HERE = os.path.dirname(__file__)


class Api:
    """Everything that is known of the service, from the .proto."""

    def __init__(self, folder):
        for path, name in ((PROTO, "ioasid"), (PROTO, "rpc_status"), (HERE, "health"),
                           (HERE, "reflection")):
            subprocess.run(["protoc", "-I" + path, "--python_out=" + folder,
                            os.path.join(path, name + ".proto")], check=True)
        sys.path.insert(0, folder)
        self.pb, self.rpc_status, self.health, self.reflection = (
            importlib.import_module(n + "_pb2")
            for n in ("ioasid", "rpc_status", "health", "reflection"))
        self.methods = {}
        for file in (self.pb, self.health):
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    self.methods[service.name + "/" + method.name] = Method(file, service, method)
        self._read_roles()

    def _read_roles(self):
        """The comment behind each rpc says who may call it."""
        with open(os.path.join(PROTO, "ioasid.proto")) as f:
            text = f.read()
        for service, body in re.findall(r"\nservice (\w+) \{(.*?)\n\}", text, re.S):
            for name, who in re.findall(r"rpc (\w+)\(.*?\);\s*// ([A-Z].*)", body):
                letters = set(who.split(",")[0]) | ({"A"} if ", A its subtree" in who else set())
                if not letters <= set("TAOM"):
                    raise AssertionError("roles of %s: %r" % (name, who))
                self.methods[service + "/" + name].roles = letters

    def method(self, name):
        if "/" in name:
            return self.methods[name]
        return self.methods.get("Broker/" + name) or self.methods.get("Admin/" + name) \
            or self.methods["Health/" + name]


class Method:
    def __init__(self, file, service, descriptor):
        self.name = descriptor.name
        self.service = service.name
        self.path = "/%s/%s" % (service.full_name, descriptor.name)
        self.Request = getattr(file, descriptor.input_type.name)
        self.Response = getattr(file, descriptor.output_type.name)
        self.fields = set(self.Request.DESCRIPTOR.fields_by_name)
        self.streaming = next(m.server_streaming for m in _service_proto(file, service.name).method
                              if m.name == self.name)
        self.roles = set()

    def request(self, fields):
        if not isinstance(fields, dict):
            return fields  # bytes, or a message
        top, scope = {}, {}
        for key, value in fields.items():
            (top if key in self.fields else scope)[key] = value
        if scope:
            if self.name == "Negotiate":
                top.setdefault("alloc", {}).setdefault("scope", {}).update(scope)
            else:
                top["scope"] = {**top.get("scope", {}), **scope}
        return self.Request(**top)

    def bytes(self, fields):
        request = self.request(fields)
        return request if isinstance(request, bytes) else request.SerializeToString()


def _service_proto(file, name):
    from google.protobuf import descriptor_pb2
    proto = descriptor_pb2.FileDescriptorProto()
    file.DESCRIPTOR.CopyToProto(proto)
    return next(s for s in proto.service if s.name == name)


class Connection:
    """A channel of an actor on one of the server's sockets."""

    def __init__(self, api, actor, path, timeout, options=()):
        self.api, self.actor, self.path, self.timeout = api, actor, path, timeout
        self.channel = actor.open(path, options)
        self.uid = actor.uid

    def _parse(self, method, outcome):
        code, message, details, data = outcome
        if code == "OK":
            return method.Response.FromString(data)
        return Refused(method.name, code, message, details, self.api.rpc_status)

    def attempt(self, name, /, **fields):
        """A response or a Refused, returned."""
        return self.send(name, fields)

    def send(self, name, fields, timeout=None):
        method = self.api.method(name)
        return self._parse(method, self.actor.call(self.channel, method.path, method.bytes(fields),
                                                   timeout or self.timeout))

    def __getattr__(self, name):
        if name.startswith("_") or not name[0].isupper():
            raise AttributeError(name)

        def call(**fields):
            result = self.send(name, fields)
            if isinstance(result, Refused):
                raise result
            return result
        return call

    def prepared(self, name, fields):
        method = self.api.method(name)
        return self.channel, method.path, method.bytes(fields)

    def many(self, calls):
        """[(name, fields)]: all at once; a response or Refused for each."""
        outcomes = self.actor.burst([self.prepared(n, f) for n, f in calls], self.timeout)
        return [self._parse(self.api.method(n), o) for (n, _), o in zip(calls, outcomes)]

    def start(self, name, /, **fields):
        method = self.api.method(name)
        call = self.actor.start(self.channel, method.path, method.bytes(fields), self.timeout)
        return Pending(self, method, call)

    def watch(self, name, /, read=True, timeout=None, **fields):
        method = self.api.method(name)
        return Stream(self, method, self.actor.stream(
            self.channel, method.path, method.bytes(fields), timeout or self.timeout, read))

    def close(self):
        if self.channel is not None and self.actor.pid:
            self.actor.close(self.channel)
        self.channel = None


class Pending:
    def __init__(self, conn, method, call):
        self.conn, self.method, self.call = conn, method, call

    def cancel(self):
        self.conn.actor.cancel(self.call)

    def result(self):
        return self.conn._parse(self.method, self.conn.actor.wait(self.call))


class Stream:
    def __init__(self, conn, method, stream):
        self.conn, self.method, self.stream = conn, method, stream

    def next(self, timeout=5.0):
        """A message; None: none came in time; Refused: the stream ended so."""
        outcome = self.conn.actor.stream_next(self.stream, timeout)
        if outcome is None:
            return None
        if outcome[0] == "END":
            return "END"
        return self.conn._parse(self.method, outcome)

    def collect(self, until, timeout=5.0):
        """Messages up to and with the first that until() accepts."""
        got = []
        while True:
            message = self.next(timeout)
            if message is None or message == "END" or isinstance(message, Refused):
                raise AssertionError("stream gave %r after %r" % (message, got))
            got.append(message)
            if until(message):
                return got

    def drain(self, quiet=0.3):
        """Messages until none came for a while."""
        got = []
        while True:
            message = self.next(quiet)
            if message is None or message == "END" or isinstance(message, Refused):
                return got
            got.append(message)

    def read(self):
        self.conn.actor.stream_read(self.stream)

    def cancel(self):
        self.conn.actor.stream_cancel(self.stream)
