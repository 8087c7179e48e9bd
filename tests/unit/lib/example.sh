#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The example program: it ends well and prints what it did, twice under limits that leave
# room for one run, so that the first gave all back; without a broker it says so.
# usage: example.sh EXAMPLE, with $IOASID_SOCKET of a broker
set -euo pipefail
example=$1

if out=$(IOASID_SOCKET=/dev/null/none "$example" 2>&1); then
	echo "it succeeds without a broker"
	exit 1
fi
grep -q "no server at /dev/null/none: Not a directory" <<<"$out"

for ((i = 0; i < 2; i++)); do
	out=$("$example" 2>&1) || { echo "$out"; exit 1; }
	echo "$out"
	for line in '^claimed: ' '^memory: id ' '^format: ' '^attached: ' \
		'^dma: 4096 bytes written and 4096 read' '^unmapped: the device is blocked' \
		'^all given back$'; do
		grep -q "$line" <<<"$out" || { echo "missing: $line"; exit 1; }
	done
done
