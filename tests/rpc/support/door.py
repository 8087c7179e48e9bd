# SPDX-License-Identifier: Apache-2.0
"""The back door of ioasidd_mock (tests/mock/door.c): what a mock device does when it is told to,
and what the kernel knows of it.  PASIDs here are the kernel's."""
import errno
import socket

READ, WRITE = 1, 2  # of a page request


class Door:
    def __init__(self, path):
        self.path = path

    def _ask(self, *words):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(60)
            s.connect(self.path)
            s.send(" ".join(str(w) for w in words).encode())
            return [int(w) for w in s.recv(256).split()]

    def _do(self, *words):
        result, *more = self._ask(*words)
        if result:
            raise OSError(-result, "%s of %s" % (words[0], " ".join(str(w) for w in words[1:])))
        return more

    def request_page(self, device, iova, access=READ, pasid=None, group=1):
        """The device asks for a page; without an attachment that can say so, OSError."""
        self._do("page", device, "-" if pasid is None else pasid, group, access, "%#x" % iova)

    def iotlb(self, device, entries, pasid=None):
        """Does the IOTLB of the device's nested table have these values, and no others?"""
        found = []
        for at, value in enumerate(entries):
            result = self._ask("iotlb", device, "-" if pasid is None else pasid, at, value)[0]
            if result not in (0, -errno.EINVAL):
                raise OSError(-result, "iotlb of %s" % device)
            found.append(not result)
        return all(found)

    def is_attached(self, device, pasid):
        """Has the kernel the PASID where the shim has put it?"""
        result = self._ask("attached", device, pasid)[0]
        if result not in (0, -errno.EINVAL, -errno.ENOENT):
            raise OSError(-result, "attached %s" % device)
        return not result

    def pasids(self, device):
        return sorted(self._do("pasids", device))
