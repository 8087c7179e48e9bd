#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An example program: it ends well and prints what it did, twice under limits that leave
# room for one run, so that the first gave all back; without a broker it says so.
# usage: example.sh EXAMPLE [DEVICE] -- PATTERN..., with $IOASID_SOCKET of a broker
set -euo pipefail
example=()
while [[ $1 != -- ]]; do
	example+=("$1")
	shift
done
shift

if out=$(IOASID_SOCKET=/dev/null/none "${example[@]}" 2>&1); then
	echo "it succeeds without a broker"
	exit 1
fi
grep -q "no server at /dev/null/none: Not a directory" <<<"$out"

for ((i = 0; i < 2; i++)); do
	out=$("${example[@]}" 2>&1) || { echo "$out"; exit 1; }
	echo "$out"
	for line in "$@" '^all given back$'; do
		grep -q -- "$line" <<<"$out" || { echo "missing: $line"; exit 1; }
	done
done
