# SPDX-License-Identifier: Apache-2.0
"""Which pages of a space are dirty, as far as the model can know.

Of an address space of kind KERNEL that is tracked.  A page is dirty for certain when a device wrote there;
perhaps, when it may have been on its way there, or an IOMMU may have set bits of a table there, or the
page may be part of a large one in which another page is dirty: which sizes the broker makes is its own affair.
Every other page must be told clean.

Of kind USER the bits are those of the tenant's own table, which lies in memory that the model sees.  So what
must be told is what they say (Search), while nothing else is on its way to them; and a leaf that a device wrote
through for certain must have its bit until somebody takes it out (File.dirtied).  Not certain is a
write that a cache may have let pass: by a leaf that the tenant wrote anew, or whose bit was taken out in
another space or at another address, until a command makes caches forget it.
"""

from tables import LEAF, READ, TABLE, WRITE, Fault, TooMany, Walk, layout, set_of

PAGE = 4096
LARGE = 512 * PAGE
TABLES_MAX = 200  # of one look; more is not worth following
BITS_MAX = 1 << 16


def one_bits(bitmap):
    left = int.from_bytes(bitmap.rstrip(b"\0"), "little")
    while left:
        low = left & -left
        yield low.bit_length() - 1
        left ^= low


def told(request, parts):
    """(addresses that a bitmap tells, what is wrong with its parts or None)"""
    size, end = request.page_size, request.iova + request.length
    bits, at = set(), request.iova
    for n, part in enumerate(parts):
        if (part.sequence, part.iova, part.page_size) != (n + 1, at, size):
            return bits, f"part {n + 1}: {part.sequence} {part.iova:#x} {part.page_size}, expected {n + 1} {at:#x} {size}"
        for i in one_bits(part.bitmap):
            bits.add(at + i * size)
        at += len(part.bitmap) * 8 * size
    if not end <= at < end + 8 * size:
        return bits, f"the bitmap ends at {at:#x}, the range at {end:#x}"
    return bits, None


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
        bits, wrong = told(request, parts)
        if wrong:
            return wrong
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


class Search:
    """A look through a tenant's table: its leaves with dirty bits, in memory as it is."""

    def __init__(self, space, first, last, output_bits):
        self.space = space
        self.output_bits = output_bits
        self.files = set()  # with pages of the table, or of those above
        self.pages = set()  # (file, offset): of the table
        self.dirty = []  # (first, last, file, offset, table), ascending
        self.clean = []  # words that should have the bit and have not
        self.left = TABLES_MAX
        if space.table:
            self.layout = layout(space.format)
            self._table(space.table.root, space.format.levels(), first, last)

    def place(self, table, access):
        """(the page of a table, the walk to it); no page where it cannot be reached."""
        walk = Walk(output_bits=self.output_bits)
        ends = list(set_of(walk._reach(self.space.parent, table, access, 2, ())))
        if len(ends) != 1:
            raise TooMany
        self.files.update(file for file, _, _, _ in walk.words)
        return (None if isinstance(ends[0], Fault) else ends[0]), walk

    def _table(self, table, level, at, last):
        self.left -= 1
        if self.left < 0:
            raise TooMany
        where, _ = self.place(table, READ)
        if where is None:
            return
        file, base = where.memory.file, where.memory.offset + where.offset
        self.files.add(file)
        self.pages.add((file, base))
        size = PAGE << 9 * (level - 1)
        words = memoryview(file.view[base : base + PAGE]).cast("Q")
        while True:
            index = at // size & 511
            raw, end = words[index], at | size - 1
            kind = None
            if raw:
                entry = self.layout.decode(level, raw, self.output_bits, self.space.snoop_control, self.space.tlb)
                kind = entry.kind
            if kind == TABLE:
                self._table(entry.address, level - 1, at, min(end, last))
            elif kind == LEAF and raw & self.layout.dirty:
                self.dirty.append((at & ~(size - 1), end, file, base + index * 8, table))
            elif kind == LEAF and self.space in file.dirtied.get(base + index * 8, ()):
                self.clean.append(at & ~(size - 1))
            if end >= last:
                return
            at = end + 1


class Written:
    """Of a space of kind USER that is tracked."""

    def __init__(self):
        self.written = set()  # where it may be worth looking
        self.reads = True
        self.last = None  # the page that was to be written last
        self.cleans = []  # (first, last, when): caches of this space forgot leaves

    def certainly(self, address):
        if len(self.written) < 256:
            self.written.add(address & ~(PAGE - 1))

    perhaps = certainly

    def page_in_turn(self, rng):
        """Which page to write next; None: it is time to read the last one."""
        self.reads = not self.reads
        if self.last is not None and self.reads:
            return None
        if self.last is None or rng.random() < 0.3:
            self.last = rng.choice(sorted(self.written))
        return self.last

    def everything(self, space):
        """After a restart: nothing is cached (World.bits_unknown)."""

    def since(self, address):
        return max((when for first, last, when in self.cleans if first <= address <= last), default=0)


class Cleaning:
    """What one call takes out of a tenant's table, if it is to."""

    def __init__(self, world, search, first, last, clear):
        self.world = world
        self.restarts = world.restarts  # one of them sets all bits, and the call is made anew
        self.search = search
        self.range = (first, last)
        self.words = {}  # (file, offset) -> whether it can be taken out
        self.walks = []
        self.told = []  # (first, last)
        for start, end, file, offset, table in search.dirty:
            if self.words.get((file, offset)):
                continue  # by another address of the same table
            self.told.append((start, end))
            if clear and first <= start and end <= last:
                where, walk = search.place(table, WRITE)
                self.words[file, offset] = where is not None
                self.walks.append((where, walk))
                if any((file, offset & ~(PAGE - 1)) in search.pages for file, offset in walk.set):
                    raise TooMany  # the table is a parent's as well: to write to it sets bits in it

    def pieces(self, request):
        size, end = request.page_size, request.iova + request.length
        for start, last in self.told:
            yield from range(max(start & ~(size - 1), request.iova), min(last + 1, end), size)

    def check(self, request, parts):
        bits, wrong = told(request, parts)
        if wrong or self.restarts != self.world.restarts:
            return wrong
        if self.search.clean:
            return f"written, and the leaf has no dirty bit: {sorted(map(hex, self.search.clean))}"
        expected = set(self.pieces(request))
        if bits - expected:
            return f"in the bitmap, and no dirty bit: {sorted(map(hex, bits - expected))[:8]}"
        if expected - bits:
            return f"a dirty bit, and not in the bitmap: {sorted(map(hex, expected - bits))[:8]}"
        return self.check_cleaned()

    def check_cleaned(self):
        if not self.words or self.restarts != self.world.restarts:
            return None
        bit = self.search.layout.dirty
        for (file, offset), out in self.words.items():
            raw = int.from_bytes(file.view[offset : offset + 8], "little")
            if bool(raw & bit) == out:
                return f"the word at {file.label} {offset:#x} is {raw:#x}"
        return None

    def done(self, dirty):
        now = self.world.tick()
        if self.restarts != self.world.restarts:
            for file in self.search.files:
                file.bits_taken(now)
            return
        for where, walk in self.walks:
            walk.remember(now)
            for s, address in walk.written | set(where.steps if where else ()):
                if s.dirty is not None:
                    s.dirty.perhaps(address)
        for (file, offset), out in self.words.items():
            if out:
                file.cleaned(offset, self.search.layout.dirty, now)
        if any(self.words.values()):
            dirty.cleans.append((*self.range, now))
            del dirty.cleans[:-64]
