#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command beside a real ioasidd of its own: this user is tenant "org", with limits
# that leave room for little, and $IOASID_SOCKET is set.  Fails when the command does, or
# when the broker does not end well.
# usage: with-broker.sh IOASIDD COMMAND [ARGUMENT...]
set -euo pipefail
ioasidd=$1
shift

dir=$(mktemp -d "${TMPDIR:-/tmp}/ioasid-lib-XXXXXX")
broker=
trap '[[ -z $broker ]] || kill -KILL "$broker" || true; rm -rf "$dir"' EXIT

cat >"$dir/policy.json" <<POLICY
{
  "version": 1,
  "tenants": {
    "org": {
      "devices": [{"any": true}],
      "limits": {"ioasids": ${IOASIDS:-1}, "registered_bytes": "2M", "connections": 4}
    }
  },
  "identities": [{"socket": "tenants", "uid": $(id -u), "role": "tenant", "tenant": "org"}]
}
POLICY
"$ioasidd" --policy "$dir/policy.json" --listen "tenants=$dir/socket:0600" --audit none \
	--keepalive 1 >"$dir/log" 2>&1 &
broker=$!
for ((i = 0; i < 400; i++)); do
	grep -q "^listening: tenants" "$dir/log" && break
	sleep 0.05
done

status=0
IOASID_SOCKET=$dir/socket "$@" || status=$?
kill "$broker"
if ! wait "$broker"; then
	echo "the broker ended badly"
	status=1
fi
broker=
((status == 0)) || cat "$dir/log"
exit "$status"
