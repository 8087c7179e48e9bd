# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# How a demo shows what it does: what is printed is what the commands printed, and each step is
# checked.  Sourced; the demo has assigned home, may add to environment, and defines as_user WHO,
# which puts the words before a command line of that user into $user and its folder and socket
# into $dir and $socket.
: "${home:?}"
passed=0 environment=() out=''

fail()
{
	printf '\nNOT AS EXPECTED: %s\n' "$*"
	exit 1
}

chapter()
{
	printf '\n---- %s ----\n' "$*"
}

# One line that says what the output above shows.
shows()
{
	printf '   => %s\n' "$*"
}

# run WHO STATUS COMMAND: a command line of a user; its output is in $out afterwards.
run()
{
	local who=$1 expected=$2 line=$3 status=0 user=() dir='' socket=''

	as_user "$who"
	printf '\n%s$ %s\n' "$who" "$line"
	out=$(cd "$dir" && "${user[@]}" env -i PATH="$home/bin:/usr/bin:/bin" HOME="$dir" \
		LC_ALL=C.UTF-8 LD_LIBRARY_PATH="$home/bin" IOASID_SOCKET="$socket" \
		"${environment[@]}" bash -o pipefail -c "$line" </dev/null 2>&1) || status=$?
	[ -z "$out" ] || printf '%s\n' "$out" | sed 's/^/   /'
	[ "$status" -eq "$expected" ] || fail "exit status $status, not $expected"
	[ "$expected" -eq 0 ] || printf '   (exit status %d)\n' "$status"
	passed=$((passed + 1))
}

# The output of the last command has, or has not, a match.
has()
{
	grep -Eq -- "$1" <<<"$out" || fail "the output does not have '$1'"
}

has_not()
{
	! grep -Eq -- "$1" <<<"$out" || fail "the output has '$1'"
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await()
{
	local seconds=$1 what=$2 end
	shift 2

	end=$((SECONDS + seconds))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || fail "$what: not after $seconds s"
		sleep 0.1
	done
}
