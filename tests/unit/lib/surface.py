#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The surface of libioasid: header, map of symbols, library, protocol agree.

usage: surface.py SOURCE_DIR LIBRARY

- the functions of lib/ioasid.h, the names in lib/libioasid.sym and what LIBRARY exports are
  the same set, all in one version;
- the header compiles alone as C99, C11 and C++11, without warnings, and names neither gRPC
  nor protobuf-c; it still does when it is included twice;
- LIBRARY needs gRPC core and protobuf-c, and no C++ library of its own accord;
- every method of proto/ioasid.proto is called by some file of lib/, with the right type of
  answer, and an idempotency key exactly where its request carries one and it changes something;
- a method that makes a lease or acts in one, by the broker's table of methods, is known to do
  so in lib/: after a restart the library must not act in a lease that is gone;
- every member of every enumeration is compared in lib/names.c.
"""
import os
import re
import subprocess
import sys
import tempfile

SOURCE, LIBRARY = sys.argv[1:3]
problems = []


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as f:
        return f.read()


def expect(ok, text):
    if not ok:
        problems.append(text)


def same(what, a, b):
    for name in sorted(set(a) - set(b)):
        problems.append(f"{what}: only the first has {name}")
    for name in sorted(set(b) - set(a)):
        problems.append(f"{what}: only the second has {name}")


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def symbols():
    header = without_comments(read("lib", "ioasid.h"))
    functions = set(re.findall(r"\b(ioasid_\w+)\(", header))
    listed = re.findall(r"^\s*(ioasid_\w+);", read("lib", "libioasid.sym"), re.M)
    out = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", LIBRARY],
                         capture_output=True, text=True, check=True).stdout
    exported, versions = set(), set()
    for line in out.splitlines():
        _, kind, name = line.split()
        if kind == "A":
            versions.add(name.split("@")[0])
            continue
        exported.add(name.split("@")[0])
        expect("@@LIBIOASID_0" in name, f"{name} is exported without a version")
    expect(len(functions) > 100, "the header's functions were not found")
    expect(len(listed) == len(set(listed)), "libioasid.sym names a symbol twice")
    expect(versions == {"LIBIOASID_0"}, f"versions are {versions}")
    same("ioasid.h and libioasid.sym", functions, listed)
    same("libioasid.sym and the library", listed, exported)


def header():
    text = read("lib", "ioasid.h")
    for word in ("grpc_", "protobuf", "Protobuf", "pb-c", "Ioasid__"):
        expect(word not in without_comments(text), f"ioasid.h names {word}")
    path = os.path.join(SOURCE, "lib", "ioasid.h")
    for command in (["gcc", "-std=c99", "-x", "c"], ["gcc", "-std=c11", "-x", "c"],
                    ["g++", "-std=c++11", "-x", "c++"]):
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [*command, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-"],
                input=f'#include "{path}"\n' * 2, cwd=folder, capture_output=True, text=True,
                check=False)
        expect(result.returncode == 0, f"ioasid.h with {' '.join(command)}:\n{result.stderr}")


def needed():
    out = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True,
                         check=True).stdout
    libraries = set(re.findall(r"NEEDED.*\[(.*?)\]", out))
    for word in ("libgrpc.so", "libprotobuf-c.so"):
        expect(any(word in x for x in libraries), f"the library does not need {word}")
    for word in ("libstdc++", "grpc++", "absl"):
        expect(not any(word in x for x in libraries), f"the library itself needs {word}")
    expect("SONAME" in out and "[libioasid.so.0]" in out, "the soname is not libioasid.so.0")


def methods():
    proto = without_comments(read("proto", "ioasid.proto"))
    requests = re.findall(r"message (\w+Request) (\{[^\n]*\}|\{.*?\n\})", proto, re.S)
    with_key = {m for m, body in requests if re.search(r"(string key|Scope scope) =", body)}
    # What changes nothing, or hands out something that cannot be handed out twice.
    unkeyed = re.compile(r"^(Get|List|Watch|Read|Negotiate|Translate|Explain|OpenTicket"
                         r"|OpenDmaService|DeviceDma)")
    wanted = {}
    for service, body in re.findall(r"service (\w+) \{(.*?)\n\}", proto, re.S):
        for name, request, answer in re.findall(
                r"rpc (\w+)\((\w+)\) returns \((?:stream )?(\w+)\)", body):
            keyed = not unkeyed.match(name) and request in with_key
            wanted[service, name] = (snake(answer), str(keyed).lower())
    expect(len(wanted) > 50, "the protocol's methods were not found")
    found = {}
    for file in sorted(os.listdir(os.path.join(SOURCE, "lib"))):
        if not file.endswith(".c"):
            continue
        for service, name, answer, keyed in re.findall(
                r'METHOD\("(\w+)",\s*"(\w+)",\s*(\w+),\s*(\w+),\s*\w+\)', read("lib", file)):
            expect((service, name) not in found, f"{service}/{name} is defined twice")
            found[service, name] = (answer, keyed)
    same("protocol and library", wanted, found)
    for key in sorted(set(wanted) & set(found)):
        expect(wanted[key] == found[key], f"{'/'.join(key)}: {found[key]}, not {wanted[key]}")


def places():
    table = read("server", "broker", "method.c")
    words = {name: set(re.findall(r"\w+", value)) for name, value in
             re.findall(r"#define (READS|CHANGES|MAKES|RETURNS|KEYED)\s+\((.*?)\)", table)}

    def flags(text):
        found = set(re.findall(r"\w+", text))
        for _ in range(3):
            for word in list(found):
                found |= words.get(word, set())
        return found

    wanted = {}
    for service, name, text in re.findall(
            r"\{(BROKER|ADMIN)\((\w+)\),\s*\w+\([\w, ]*\),\s*\w+,\s*([\w |]+),", table):
        found = flags(text)
        wanted[service.capitalize(), name] = \
            "MAKES_LEASE" if "METHOD_MAKES_LEASE" in found else \
            "IN_LEASE" if "METHOD_LEASE" in found else "outside"
    expect(len(wanted) > 45, "the broker's table of methods was not read")
    for file in sorted(os.listdir(os.path.join(SOURCE, "lib"))):
        for service, name, place in re.findall(
                r'METHOD\("(\w+)",\s*"(\w+)",\s*\w+,\s*\w+,\s*(\w+)\)',
                read("lib", file) if file.endswith(".c") else ""):
            if place in ("OUTSIDE_LEASES", "HOLDS"):
                place = "outside"
            expect(wanted.get((service, name), place) == place,
                   f"{service}/{name} is {place} in lib/, {wanted.get((service, name))} there")


def enumerations():
    proto = without_comments(read("proto", "ioasid.proto"))
    names = read("lib", "names.c")
    n = 0
    for enum, body in re.findall(r"enum (\w+) \{(.*?)\n\}", proto, re.S):
        for member in re.findall(r"^\s*(\w+) = \d+;", body, re.M):
            n += 1
            generated = f"IOASID__V1__{snake(enum).upper()}__{member}"
            expect(re.search(rf"SAME\(IOASID_\w+,\s*{generated}\);", names),
                   f"names.c does not compare {generated}")
    expect(n > 90, "the protocol's enumerations were not found")


symbols()
header()
needed()
methods()
places()
enumerations()
for problem in problems:
    print(problem)
print(f"{len(problems)} problems")
sys.exit(1 if problems else 0)
