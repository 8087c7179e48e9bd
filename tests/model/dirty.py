# SPDX-License-Identifier: Apache-2.0
"""Which pages of a space are dirty, as far as the model can know.

Of an address space of kind KERNEL that is tracked.  A page is dirty for certain when a device wrote there;
perhaps, when it may have been on its way there, or an IOMMU may have set bits of a table there, or the
page may be part of a large one in which another page is dirty: which sizes the broker makes is its own affair.
Every other page must be told clean.
"""

PAGE = 4096
LARGE = 512 * PAGE


def one_bits(bitmap):
    left = int.from_bytes(bitmap.rstrip(b"\0"), "little")
    while left:
        low = left & -left
        yield low.bit_length() - 1
        left ^= low


class Pages:
    def __init__(self):
        self.written = set()  # page addresses
        self.suspected = set()

    def certainly(self, address):
        self.written.add(address & ~(PAGE - 1))

    def perhaps(self, address):
        self.suspected.add(address & ~(PAGE - 1))

    def unmapped(self, m):
        for pages in (self.written, self.suspected):
            pages.difference_update([p for p in pages if m.iova <= p < m.iova + m.length])

    def everything(self, space):
        """After a restart of the broker."""
        for m in space.maps.values():
            self.suspected.update(range(m.iova, m.iova + m.length, PAGE))

    @staticmethod
    def _large(space, page):
        """(start, end) of the large page that a page may be part of, or of itself."""
        start = page & ~(LARGE - 1)
        m = space.find(page)
        if m and m.iova <= start and start + LARGE <= m.iova + m.length:
            return start, start + LARGE
        return page, page + PAGE

    def check(self, space, request, parts):
        """What is wrong with the bitmap, or None."""
        size, end = request.page_size, request.iova + request.length
        bits, at = set(), request.iova
        for n, part in enumerate(parts):
            if (part.sequence, part.iova, part.page_size) != (n + 1, at, size):
                return f"part {n + 1}: {part.sequence} {part.iova:#x} {part.page_size}, expected {n + 1} {at:#x} {size}"
            for i in one_bits(part.bitmap):
                bits.add(at + i * size)
            at += len(part.bitmap) * 8 * size
        if not end <= at < end + 8 * size:
            return f"the bitmap ends at {at:#x}, the range at {end:#x}"
        allowed = set()
        for page in self.written | self.suspected:
            start, last = self._large(space, page)
            for piece in range(max(start & ~(size - 1), request.iova), min(last, end), size):
                allowed.add(piece)
        needed = {p & ~(size - 1) for p in self.written if request.iova <= p < end}
        if needed - bits:
            return f"written and not in the bitmap: {sorted(map(hex, needed - bits))}"
        if bits - allowed:
            return f"in the bitmap and not written: {sorted(map(hex, bits - allowed))}"
        return None

    def cleared(self, space, request):
        start, end = request.iova, request.iova + request.length
        for page in [p for p in self.written | self.suspected if start <= p < end]:
            first, last = self._large(space, page)
            self.written.discard(page)
            self.suspected.discard(page)
            if first < start or last > end:
                self.suspected.add(page)  # the rest of its large page was not asked for
        # Of a large page that was cleared as a whole nothing is left to suspect.
