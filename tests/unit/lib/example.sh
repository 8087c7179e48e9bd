#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The example program against a real ioasidd: it ends well, prints what it did, and leaves
# nothing charged; twice, and without a broker it says so.
# usage: example.sh IOASIDD EXAMPLE
set -euo pipefail
ioasidd=$1 example=$2

dir=$(mktemp -d "${TMPDIR:-/tmp}/ioasid-example-XXXXXX")
broker=
cleanup() {
	[[ -z $broker ]] || { kill "$broker" 2>/dev/null || true; wait "$broker" || true; }
	rm -rf "$dir"
}
trap cleanup EXIT

cat >"$dir/policy.json" <<POLICY
{
  "version": 1,
  "tenants": {
    "org": {"devices": [{"any": true}], "limits": {"ioasids": 1, "registered_bytes": "2M"}}
  },
  "identities": [{"socket": "tenants", "uid": $(id -u), "role": "tenant", "tenant": "org"}]
}
POLICY

export IOASID_SOCKET=$dir/socket
if "$example" >"$dir/out" 2>&1; then
	echo "it succeeds without a broker"
	exit 1
fi
grep -q "no server at $dir/socket: No such file or directory" "$dir/out"

"$ioasidd" --policy "$dir/policy.json" --listen "tenants=$dir/socket:0600" --audit none \
	>"$dir/log" 2>&1 &
broker=$!
for ((i = 0; i < 200; i++)); do
	grep -q "^listening: tenants" "$dir/log" && break
	sleep 0.05
done

# The limits leave room for one run: the second one shows that the first gave all back.
for ((i = 0; i < 2; i++)); do
	"$example" >"$dir/out" 2>&1 || { cat "$dir/out" "$dir/log"; exit 1; }
	cat "$dir/out"
	for line in '^claimed: ' '^memory: id ' '^format: ' '^attached: ' \
		'^dma: 4096 bytes written and 4096 read' '^unmapped: the device is blocked' \
		'^all given back$'; do
		grep -q "$line" "$dir/out" || { echo "missing: $line"; exit 1; }
	done
done

kill "$broker"
wait "$broker"
broker=
