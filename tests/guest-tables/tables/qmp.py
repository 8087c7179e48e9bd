# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor over its QMP socket; commands of the human monitor go through it too."""
import json
import socket


class MonitorError(Exception):
    """QEMU refused a command, or is gone."""


class Monitor:
    def __init__(self, path, timeout=600):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.file = self.socket.makefile("r", encoding="utf-8")
        self._line()
        self.execute("qmp_capabilities")

    def _line(self):
        line = self.file.readline()
        if not line:
            raise MonitorError("QEMU closed its monitor")
        return json.loads(line)

    def execute(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._line()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise MonitorError(f"{command}: {answer['error'].get('desc')}")

    def human(self, line):
        """The output of a command of the human monitor."""
        return self.execute("human-monitor-command", **{"command-line": line})

    def close(self):
        self.file.close()
        self.socket.close()
