#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ioasidctl walk as a program, on tables that real kernels built.

usage: walk.py IOASIDCTL [UNITTEST OPTION...]

Every folder of tests/data/page-tables is a set: meta.json says how it is walked (walk_format,
root, walk_args), translations.tsv what must come out.  A set whose format is not known is a
failure, as is one that does not say how it is walked.  No server runs.
"""
import bisect
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from random import Random

SETS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "data", "page-tables")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
PROGRAM = None


class Set:
    """One folder: how it is walked, and the answers."""

    def __init__(self, name):
        folder = os.path.join(SETS, name)
        with open(os.path.join(folder, "meta.json"), encoding="utf-8") as f:
            meta = json.load(f)
        self.name = name
        self.meta = meta
        self.pages = os.path.join(folder, "pages.bin")
        self.table = ["--format", meta["walk_format"], "--root", meta["root"], *meta["walk_args"]]
        self.rows = []
        with open(os.path.join(folder, "translations.tsv"), encoding="utf-8") as f:
            for line in f:
                if not line.startswith("#"):
                    self.rows.append(line.rstrip("\n").split("\t")[:5])

    def options(self, image=None, image_format="pages"):
        return [*self.table, "--image", image or self.pages, "--image-format", image_format]

    def records(self):
        granule = self.meta["granule"]
        with open(self.pages, "rb") as f:
            while record := f.read(8 + granule):
                yield struct.unpack_from("<Q", record)[0], record[8:]


def sets():
    return [Set(name) for name in sorted(os.listdir(SETS))
            if os.path.isdir(os.path.join(SETS, name))]


def run(*words, stdin="", output="json"):
    return subprocess.run([PROGRAM, "-o", output, "walk", *words], input=stdin,
                          capture_output=True, text=True, timeout=120, check=False)


def size_of(name):
    return int(name[:-1]) * UNITS[name[-1]]


def is_row(answer, row):
    """Is the answer what the row says?"""
    _, output, size, perms, tag = row
    if output == "FAULT":
        # In a table of a CPU that is: no read translation.  The tag has what it is instead.
        return answer["result"] == "fault" or (answer["perm"].startswith("--x") and
                                               "--x" in tag)
    if answer["result"] != "ok" or answer["output"] != f"0x{int(output, 16):x}" or \
            answer["page_size"] != size_of(size) or not answer["perm"].startswith(perms[:4]):
        return False
    # ARM's sets have a fifth letter: the privileged may execute.
    return len(perms) < 5 or answer["privileged_execute"] == (perms[4] == "P")


class Vectors(unittest.TestCase):
    """Real tables, every line of every set."""

    def test_there_are_sets(self):
        names = [s.name for s in sets()]
        self.assertIn("x86_64-4level", names)
        self.assertIn("vtd-legacy-ss-4level", names)

    def test_every_address(self):
        for s in sets():
            with self.subTest(s.name):
                self.assertEqual(len(s.rows), s.meta["lines"])
                r = run(*s.options(), "-", stdin="".join(f"0x{row[0]}\n" for row in s.rows))
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                answers = [json.loads(line) for line in r.stdout.splitlines()]
                self.assertEqual(len(answers), len(s.rows))
                for answer, row in zip(answers, s.rows):
                    self.assertEqual(int(answer["address"], 16), int(row[0], 16))
                    if not is_row(answer, row):
                        self.fail(f"{s.name}: {row} is answered {answer}")
                    # A set has all the tables that its addresses need.
                    self.assertNotEqual(answer.get("cause"), "not-in-image")
                    self.assert_levels(answer)
                faults = sum(a["result"] == "fault" for a in answers)
                self.assertTrue(0 < faults < len(answers))

    def assert_levels(self, answer):
        """Each table is the one that the entry before it names, down to a page."""
        levels = answer["levels"]
        for above, below in zip(levels, levels[1:]):
            self.assertEqual(above["kind"], "table")
            self.assertGreater(above["level"], below["level"])
        if answer["result"] == "ok":
            self.assertEqual(levels[-1]["kind"], "page")
        elif levels:
            self.assertEqual(answer["level"], levels[-1]["level"])
            self.assertEqual(answer["entry"], levels[-1]["entry"])

    @staticmethod
    def listed(s, va):
        """With another top byte, where that is ignored, an address is not listed once more."""
        if "--tbi" not in s.table:
            return va
        return va & (1 << 56) - 1 | (0xff << 56 if va >> 55 & 1 else 0)

    def test_all_agrees_with_every_address(self):
        for s in sets():
            with self.subTest(s.name):
                r = run(*s.options(), "--all")
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                ranges = [json.loads(line) for line in r.stdout.splitlines()]
                starts = [int(x["address"], 16) for x in ranges]
                self.assertEqual(starts, sorted(starts))
                for x, start, after in zip(ranges, starts, starts[1:]):
                    self.assertLessEqual(start + x["length"], after)
                for row in s.rows:
                    va = self.listed(s, int(row[0], 16))
                    i = bisect.bisect_right(starts, va) - 1
                    inside = i >= 0 and va - starts[i] < ranges[i]["length"] and \
                        ranges[i]["result"] == "ok"
                    if row[1] == "FAULT":
                        self.assertTrue(not inside or ranges[i]["perm"][0] == "-", row)
                        continue
                    self.assertTrue(inside, row)
                    answer = dict(ranges[i])
                    output = int(answer["output"], 16) + va - starts[i]
                    answer["output"] = f"0x{output:x}"
                    self.assertTrue(is_row(answer, row), (row, answer))

    def test_stats_add_up(self):
        for s in sets():
            with self.subTest(s.name):
                r = run(*s.options(), "--all", "--stats")
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                *ranges, stats = [json.loads(line) for line in r.stdout.splitlines()]
                stage = stats["stages"][0]
                mapped = sum(x["length"] for x in ranges if x["result"] == "ok")
                self.assertEqual(stage["mapped_bytes"], mapped)
                self.assertEqual(stage["table_bytes"], sum(t["bytes"] for t in stage["tables"]))
                for p in stage["pages"]:
                    self.assertEqual(p["count"] * p["page_size"], p["bytes"])

    def test_people(self):
        for s in sets():
            with self.subTest(s.name):
                row = next(row for row in s.rows if row[1] != "FAULT")
                r = run(*s.options(), "0x" + row[0], output="table")
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                first, *levels = r.stdout.splitlines()
                self.assertRegex(first, f"^0x{row[0].lstrip('0')}  =>  0x{row[1].lstrip('0')}  "
                                 f"page {row[2]}  {row[3][:2]}")
                self.assertTrue(levels)
                for line in levels:
                    self.assertRegex(line, r"^  level \d  table 0x[0-9a-f]{12,}  \[ *\d+\]  0x")


class Images(unittest.TestCase):
    """The same memory in each format, and large ones."""

    def setUp(self):
        # pylint: disable-next=consider-using-with
        folder = tempfile.TemporaryDirectory(prefix="ioasid-walk-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_raw(self, s, size):
        path = self.path("raw")
        with open(path, "wb") as f:
            f.truncate(size)
            for address, page in s.records():
                f.seek(address)
                f.write(page)
        return path

    def write_elf(self, s, big_count):
        """As QEMU writes it: a note, then memory by physical address."""
        path = self.path("core")
        records = list(s.records())
        n = len(records) + 1
        headers = struct.pack("<IIQQQQQQ", 4, 0, 64 + n * 56, 0, 0, 8, 8, 0)
        offset = 64 + n * 56 + 64
        for address, page in records:
            headers += struct.pack("<IIQQQQQQ", 1, 0, offset, 0, address, len(page), len(page), 0)
            offset += len(page)
        section = offset if big_count else 0
        with open(path, "wb") as f:
            f.write(struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 4, 62, 1, 0, 64,
                                section, 0, 64, 56, 0xffff if big_count else n,
                                64, int(big_count), 0))
            f.write(headers)
            f.write(b"\0" * 64)
            for _, page in records:
                f.write(page)
            if big_count:
                f.write(struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, n, 0, 0))
        return path

    def test_formats_agree(self):
        for s in sets():
            with self.subTest(s.name):
                stdin = "".join(f"0x{row[0]}\n" for row in s.rows)
                top = max(address for address, _ in s.records())
                if top >= 1 << 43:
                    self.skipTest("a raw image would be too long for the file system")
                expected = run(*s.options(), "-", stdin=stdin)
                self.assertEqual(expected.returncode, 0)
                raw = self.write_raw(s, (top | 0xfffff) + 1)
                for image, image_format in ((raw, "raw"), (self.write_elf(s, False), "elf-core"),
                                            (self.write_elf(s, True), "elf-core")):
                    r = run(*s.options(image, image_format), "-", stdin=stdin)
                    self.assertEqual((r.returncode, r.stderr), (0, ""))
                    self.assertEqual(r.stdout, expected.stdout)
                # Without --image-format it is told by the file.
                for image in (s.pages, raw, self.path("core")):
                    r = run(*s.table, "--image", image, "-", stdin=stdin)
                    self.assertEqual((r.returncode, r.stdout), (0, expected.stdout))

    def test_a_missing_page_is_never_a_translation(self):
        s = Set("x86_64-4level")
        records = list(s.records())
        path = self.path("less")
        stdin = "".join(f"0x{row[0]}\n" for row in s.rows)
        for gone in range(0, len(records), 17):
            with open(path, "wb") as f:
                for i, (address, page) in enumerate(records):
                    if i != gone:
                        f.write(struct.pack("<Q", address) + page)
            r = run(*s.options(path), "-", stdin=stdin)
            self.assertEqual(r.returncode, 0)
            missing = 0
            for line, row in zip(r.stdout.splitlines(), s.rows):
                answer = json.loads(line)
                if answer.get("cause") == "not-in-image":
                    self.assertEqual(int(answer["missing"], 16) & ~0xfff, records[gone][0])
                    missing += 1
                else:
                    self.assertTrue(is_row(answer, row), (row, answer))
            self.assertGreater(missing, 0)

    def test_16_gib_open_at_once(self):
        s = Set("x86_64-4level")
        path = self.write_raw(s, 16 << 30)
        row = next(row for row in s.rows if row[1] != "FAULT")
        began = time.monotonic()
        with subprocess.Popen([PROGRAM, "walk", *s.options(path, "raw"), "0x" + row[0]],
                              stdout=subprocess.PIPE) as p:
            out = p.stdout.read()
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(p.returncode, 0)
        self.assertIn(b"=>  0x" + row[1].encode(), out)
        # A busy machine, sanitizers: still nothing beside reading 16 GiB.
        self.assertLess(time.monotonic() - began, 5)
        self.assertLess(usage.ru_maxrss, 200 << 10)

    def test_base(self):
        s = Set("x86_64-4level")
        base = min(address for address, _ in s.records()) & ~0xfffff
        path = self.path("part")
        with open(path, "wb") as f:
            for address, page in s.records():
                f.seek(address - base)
                f.write(page)
        row = next(row for row in s.rows if row[1] != "FAULT")
        r = run(*s.options(path, "raw"), "--image-base", hex(base), "0x" + row[0])
        self.assertEqual(json.loads(r.stdout)["output"], "0x" + row[1])
        r = run(*s.options(path, "raw"), "--image-base", hex(1 << 40), "0x" + row[0])
        self.assertEqual(r.returncode, 0)
        self.assertEqual(json.loads(r.stdout)["cause"], "not-in-image")


class Garbage(unittest.TestCase):
    """Tables that are nearly any bytes, in every format: what is listed is what walks find."""

    SAME = ("result", "cause", "page_size", "perm", "privileged_execute", "privileged")

    @staticmethod
    def formats():
        message = run("--format", "x86_64-4l", "--root", "0", "--image", "x", "--nested-on", "?:0",
                      "0", output="table").stderr
        return message.rpartition("one of ")[2].split()

    @staticmethod
    def entry(random, pages):
        """An entry that some format may take for a table or a page."""
        kind = random.random()
        if kind < 0.3:
            return 0
        if kind < 0.4:
            return random.getrandbits(64)
        low = random.choice((1, 3, 7, 0xf, 0xcf, 0xd1, 0x11, 0x83, 0x87, 0x401, 0x403, 0x743, 0x7c3))
        address = random.randrange(pages) << random.choice((12, 12, 10))
        amd = random.choice((0, 0, random.randrange(8) << 9))
        high = random.choice((*[0] * 6, 3 << 61, random.getrandbits(12) << 52))
        return low | address | amd | high

    @staticmethod
    def parent(random, pages):
        """A table for VT-d that maps the garbage to itself, mostly, and lies behind it."""
        root = pages * 4096
        middle = [root + 0x2003] + [random.choice((0, 1, 2, 3)) | n << 21 | 0x80
                                    for n in range(1, 512)]
        last = [0 if n and random.random() < 0.05 else n << 12 | random.choice((1, 3, 3, 3))
                for n in range(pages)]
        return struct.pack("<1536Q", root + 0x1003, *[0] * 511, *middle,
                           *last, *[0] * (512 - pages))

    def test_list_and_walk_agree(self):
        names = [name.rstrip(",") for name in self.formats()]
        # The API's spelling of the same.
        names = [n for n in names if not (n.startswith("amdv1-") and n.endswith("l"))]
        self.assertIn("x86_64-4l", names)
        self.assertIn("sv48", names)
        pages, compared = 32, 0
        with tempfile.NamedTemporaryFile(prefix="ioasid-walk-") as f:
            for number, name in enumerate(names * 3):
                random = Random(number)
                words = [self.entry(random, pages) for _ in range(pages * 512)]
                f.seek(0)
                f.write(struct.pack(f"<{pages * 512}Q", *words))
                f.write(self.parent(random, pages))
                f.flush()
                table = ["--format", name, "--root", "0x10000", "--image", f.name,
                         "--image-format", "raw"]
                if number >= 2 * len(names):
                    # No format of EPT's says that accessed flags are kept.
                    if name.startswith("ept-"):
                        continue
                    table += ["--af-fault"]
                elif number >= len(names):
                    table += ["--nested-on", f"vtdss-3l:{pages * 4096:#x}"]
                compared += self.compare(table, random)
        self.assertGreater(compared, 2000)

    def compare(self, table, random):
        r = run(*table, "--all", "--limit", "8000")
        self.assertIn(r.returncode, (0, 1), r.stderr)
        # The last range may have been cut off by the limit.
        ranges = [json.loads(line) for line in r.stdout.splitlines()]
        ranges = ranges[:-1] if r.returncode else ranges
        asked = []
        before = None
        # Some of each sort, as some sorts are rare.
        sorts = {}
        random.shuffle(shuffled := list(ranges))
        for x in shuffled:
            sort = tuple(x.get(key) for key in self.SAME)
            sorts.setdefault(sort, []).append(x)
        for x in (x for some in sorts.values() for x in some[:5]):
            start = int(x["address"], 16)
            for offset in {0, x["length"] - 1, random.randrange(x["length"])}:
                asked.append((start + offset, x, offset))
        for x in ranges[:200]:
            start = int(x["address"], 16)
            if before is not None and before < start:
                asked.append((random.randrange(before, start), None, 0))
            before = start + x["length"]
        r = run(*table, "-", stdin="".join(f"0x{address:x}\n" for address, _, _ in asked))
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        for line, (address, x, offset) in zip(r.stdout.splitlines(), asked):
            answer = json.loads(line)
            if x is None:
                self.assertEqual(answer["result"], "fault", (table, answer))
                self.assertIn(answer["cause"], ("not-present", "non-canonical", "address-width"),
                              (table, answer))
                continue
            for key in self.SAME:
                self.assertEqual(answer.get(key), x.get(key), (table, x, answer))
            if x["result"] == "ok":
                self.assertEqual(int(answer["output"], 16), int(x["output"], 16) + offset,
                                 (table, x, answer))
        return len(asked)


class Program(unittest.TestCase):
    """Streams and exit codes."""

    def setUp(self):
        self.set = Set("x86_64-4level")
        self.row = next(row for row in self.set.rows if row[1] != "FAULT")

    def test_a_pipe_is_interactive(self):
        with subprocess.Popen([PROGRAM, "-o", "json", "walk", *self.set.options(), "-"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              bufsize=1) as p:
            for row in self.set.rows[:50]:
                p.stdin.write(f"0x{row[0]}\n")
                p.stdin.flush()
                # Would wait for ever for an answer that is kept back.
                answer = json.loads(p.stdout.readline())
                self.assertTrue(is_row(answer, row))
            p.stdin.close()
            self.assertEqual(p.stdout.read(), "")
        self.assertEqual(p.returncode, 0)

    def test_lines(self):
        va = "0x" + self.row[0]
        r = run(*self.set.options(), "-", stdin=f"# a comment\n\n  {va}  \r\n{int(va, 16)}\n{va}")
        self.assertEqual(r.returncode, 0)
        self.assertEqual({json.loads(line)["output"] for line in r.stdout.splitlines()},
                         {"0x" + self.row[1]})
        self.assertEqual(len(r.stdout.splitlines()), 3)
        r = run(*self.set.options(), "-", stdin=f"{va}\nfff\n{va}\n")
        self.assertEqual(r.returncode, 1)
        self.assertEqual(len(r.stdout.splitlines()), 1)
        error = json.loads(r.stderr)
        self.assertEqual(error["reason"], "LOCAL")
        self.assertIn('line 2: got "fff"', error["message"])

    def test_arguments_and_input(self):
        va = "0x" + self.row[0]
        r = run(*self.set.options(), va, "-", "0x1", stdin="0x2\n0x3\n")
        self.assertEqual(r.returncode, 0)
        self.assertEqual([json.loads(line)["address"] for line in r.stdout.splitlines()],
                         ["0x" + self.row[0].lstrip("0"), "0x2", "0x3", "0x1"])

    def test_a_fault_is_an_answer(self):
        row = next(row for row in self.set.rows if row[1] == "FAULT")
        r = run(*self.set.options(), "0x" + row[0])
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(json.loads(r.stdout)["result"], "fault")

    def test_errors(self):
        table = self.set.table
        for words, status, text in (
                ([*table, "--image", "/nowhere", "0"], 1, "--image: cannot open /nowhere"),
                ([*table, "--image", "/dev/zero", "0"], 1, "no regular file"),
                ([*table, "--image", self.set.pages, "--image-format", "elf-core", "0"], 1,
                 "no ELF file"),
                ([*table, "--image", self.set.pages], 2, "missing ADDR"),
                (["--format", "vax", "--root", "0", "--image", "x", "0"], 2,
                 "expected one of x86_64-4l, x86_64-5l, vtdss-3l"),
        ):
            r = run(*words, output="table")
            self.assertEqual((r.returncode, r.stdout), (status, ""), words)
            self.assertIn(text, r.stderr)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            for words in (["0x" + self.row[0]], ["--all"], ["--stats"]):
                r = subprocess.run([PROGRAM, "walk", *self.set.options(), *words], stdout=full,
                                   stderr=subprocess.PIPE, text=True, timeout=60, check=False)
                self.assertEqual(r.returncode, 1)
                self.assertIn("cannot write the answer", r.stderr)

    def test_not_the_input_of_a_shell(self):
        line = f"walk {' '.join(self.set.options())}"
        r = subprocess.run([PROGRAM, "shell"], input=f"{line} -\n{line} 0x{self.row[0]}\n",
                           capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(r.returncode, 2)
        self.assertIn("not inside a shell", r.stderr)
        self.assertIn("0x" + self.row[1], r.stdout)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = os.path.realpath(sys.argv.pop(1))
    unittest.main()
