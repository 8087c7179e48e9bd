# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What a job may call inside the guest.  Sourced by lib/in-guest before the job file.  Under
# QEMU without KVM a new process costs some 50 ms: these do with the shell alone where they can.

# ok NAME; not_ok NAME WHY: one check, counted by tests/guest/run.
ok()
{
	printf 'ok %s\n' "$1"
}

not_ok()
{
	printf 'not ok %s: %s\n' "$1" "$2"
}

# check NAME COMMAND...: ok if the command succeeds.  Its output is shown only if it does not.
check()
{
	local name=$1 out
	shift

	if out=$("$@" 2>&1); then
		ok "$name"
	else
		not_ok "$name" "$(printf '%s' "${out:-$* failed}" | tail -n 1)"
		printf '%s\n' "$out"
	fi
}

# check_fails NAME COMMAND...: ok if the command fails.
check_fails()
{
	local name=$1 out
	shift

	if out=$("$@" 2>&1); then
		not_ok "$name" "'$*' succeeded"
		printf '%s\n' "$out"
	else
		ok "$name"
	fi
}

# skip NAME WHY: a check that cannot be made here.
skip()
{
	printf 'skip %s: %s\n' "$1" "$2"
}

# pci_find VENDOR:DEVICE: addresses (0000:00:03.0) of these functions, one a line, in order.
pci_find()
{
	local dir vendor device

	for dir in /sys/bus/pci/devices/*; do
		read -r vendor <"$dir/vendor"
		read -r device <"$dir/device"
		[ "$vendor:$device" != "0x${1%:*}:0x${1#*:}" ] || printf '%s\n' "${dir##*/}"
	done
}

EDU=1234:11e8
E1000E=8086:10d3
NVME=1b36:0010
export EDU E1000E NVME

# pci_group BDF: number of its IOMMU group.
pci_group()
{
	basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"
}

# pci_driver BDF: the driver that has it, or nothing.
pci_driver()
{
	[ ! -e "/sys/bus/pci/devices/$1/driver" ] ||
		basename "$(readlink "/sys/bus/pci/devices/$1/driver")"
}

pci_unbind()
{
	[ ! -e "/sys/bus/pci/devices/$1/driver" ] ||
		echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
}

# vfio_bind BDF...: hands each to vfio-pci.
vfio_bind()
{
	local bdf

	for bdf; do
		pci_unbind "$bdf"
		echo vfio-pci >"/sys/bus/pci/devices/$bdf/driver_override"
		echo "$bdf" >/sys/bus/pci/drivers_probe
		[ "$(pci_driver "$bdf")" = vfio-pci ] || return 1
	done
}

# vfio_unbind BDF...: takes each back; no driver has it then.
vfio_unbind()
{
	local bdf

	for bdf; do
		pci_unbind "$bdf"
		echo >"/sys/bus/pci/devices/$bdf/driver_override"
	done
}

# vfio_cdev BDF: the character device of a function that vfio-pci has.
vfio_cdev()
{
	local dir

	for dir in "/sys/bus/pci/devices/$1/vfio-dev"/vfio*; do
		[ -e "$dir" ] || return 1
		printf '/dev/vfio/devices/%s\n' "${dir##*/}"
	done
}

# as_user UID COMMAND...: without any privilege.
as_user()
{
	local uid=$1
	shift

	setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs "$@"
}

# vtd_ecap BIT: is this bit of the first VT-d unit's extended capabilities set?  43: scalable
# mode, 46: second stage, 47: first stage (in scalable mode).
vtd_ecap()
{
	local ecap

	ecap=$(<"/sys/class/iommu/dmar0/intel-iommu/ecap") || return 1
	(((0x$ecap >> $1) & 1))
}

# vtd_mode: "legacy" or "scalable", as the kernel programmed the unit: the field TTM of its
# root table address.
vtd_mode()
{
	local value

	value=$(awk '$1 == "RTADDR" { print $3; exit }' /sys/kernel/debug/iommu/intel/iommu_regset)
	case $(((value >> 10) & 3)) in
	0) echo legacy ;;
	1) echo scalable ;;
	*) echo unknown ;;
	esac
}

# broker_start [OPTION...]: ioasid-keeper as root, ioasidd as a user without privileges, on the
# real IOMMU and with a registry (the option --registry has another, or none), with the tenants
# org/ana and org/bob; sets TENANTS and ADMIN, their sockets.  lib/daemon ends and starts them.
# With KEEPER_OPTIONS=(OPTION...) the keeper gets these, too.  With KEEPER_UNDER=(PROGRAM ARGUMENT...) the keeper is that program's, which gets the keeper's
# command after its own arguments and has its socket.
# ana, bob, admin ARGUMENT...: ioasidctl as one of them.  broker_stop: ends both in order, and
# checks that they do, and that nothing was left with the keeper.
BROKER_UID=61000
KEEPER_SOCKET=/run/ioasid-keeper/sock
KEEPER_UNDER=()
KEEPER_OPTIONS=()
broker_start()
{
	local dir=/run/ioasid options=(--listen "$KEEPER_SOCKET" --no-fdstore)
	TENANTS=$dir/tenants.sock ADMIN=$dir/admin.sock REGISTRY=/run/ioasid-registry
	export TENANTS ADMIN REGISTRY

	# As the units of packaging/systemd say.
	ulimit -n 65536
	ulimit -l unlimited
	mkdir -p "$dir" "$REGISTRY" "${KEEPER_SOCKET%/*}"
	chmod 711 "${KEEPER_SOCKET%/*}"
	chown "$BROKER_UID:$BROKER_UID" "$dir" "$REGISTRY"
	cat >/tmp/policy.json <<-'JSON'
	{"version": 1,
	 "tenants": {"org": {"devices": [{"any": true}]}, "org/ana": {"delegate": true},
	  "org/bob": {"delegate": true}},
	 "identities": [
	  {"socket": "tenants", "uid": 61001, "role": "tenant", "tenant": "org/ana"},
	  {"socket": "tenants", "uid": 61002, "role": "tenant", "tenant": "org/bob"},
	  {"socket": "agents", "uid": 0, "role": "agent", "subtree": "org"},
	  {"socket": "ana", "role": "tenant", "tenant": "org/ana"},
	  {"socket": "admin", "uid": 0, "role": "admin"}]}
	JSON
	[ ${#KEEPER_UNDER[@]} -eq 0 ] || options=()
	echo "${KEEPER_UNDER[@]}" "$BUILD/bin/ioasid-keeper" "${options[@]}" --client "$BROKER_UID" \
		--state "${KEEPER_SOCKET%/*}/state" "${KEEPER_OPTIONS[@]}" >/tmp/keeper.command
	[[ " $* " = *' --registry '* ]] || set -- --registry "$REGISTRY" "$@"
	echo "$BUILD/bin/ioasidd" --shim iommufd --keeper "$KEEPER_SOCKET" \
		--policy /tmp/policy.json --listen "tenants=$TENANTS:0666" \
		--listen "admin=$ADMIN:0600" --audit none "$@" >/tmp/broker.command
	tests/guest/lib/daemon keeper start && tests/guest/lib/daemon broker start && return 0
	not_ok 'keeper and ioasidd start' 'see their logs'
	return 1
}

ana()
{
	as_user 61001 "$BUILD/bin/ioasidctl" --socket "$TENANTS" "$@"
}

bob()
{
	as_user 61002 "$BUILD/bin/ioasidctl" --socket "$TENANTS" "$@"
}

admin()
{
	"$BUILD/bin/ioasidctl" --socket "$ADMIN" "$@"
}

# refused NAME MATCH COMMAND...: ok if the command fails and its output has a match.
refused()
{
	local name=$1 match=$2 out
	shift 2

	if out=$("$@" 2>&1); then
		not_ok "$name" "'$*' succeeded"
	elif grep -Eq -- "$match" <<<"$out"; then
		ok "$name"
	else
		not_ok "$name" "it does not say '$match'"
	fi
	printf '%s\n' "$out"
}

# in_time COMMAND...: whether it succeeds within ten seconds; tried again until then.
in_time()
{
	local end=$((SECONDS + 10))

	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# counters_zero TENANT: nothing is charged to it, nor to what is below it.
counters_zero()
{
	local out

	out=$(admin -o json tenant list "$1" --unused) || return 1
	grep -q '"used"' <<<"$out" || return 1
	! grep '"used": *[1-9]' <<<"$out"
}

# What the keeper has open for others: contexts, devices, memory.
keeper_holds_nothing()
{
	local pid=/tmp/keeper.pid

	[ ! -e /tmp/keeper.child ] || pid=/tmp/keeper.child
	! find "/proc/$(<"$pid")/fd" -type l -printf '%l\n' |
		grep -E '^(/dev/iommu|/dev/vfio/|/memfd:|anon_inode:.*(iommufd|vfio))'
}

broker_stop()
{
	check 'the keeper holds nothing any more' in_time keeper_holds_nothing
	check 'ioasidd ends in order' tests/guest/lib/daemon broker end
	check 'ioasid-keeper ends in order' tests/guest/lib/daemon keeper end
	cat /tmp/keeper.log /tmp/keeper.new /tmp/broker.log /tmp/broker.new 2>/dev/null || true
}

# rpc_suites [OPTION...] [SUITE...]: tests/rpc/run on the machine's own devices.  Its lines count;
# its status says no more.
rpc_suites()
{
	tests/rpc/run --build "$BUILD" --shim iommufd --slow 6 --lines "$@" || true
}

# mock_suites: the same on the kernel's mock devices (tests/mock).
mock_suites()
{
	tests/rpc/run --build "$BUILD" --shim mock --slow 6 --lines "$@" || true
}

# model_test [OPTION...]: tests/model/run on the machine's own devices; one check.
model_test()
{
	local said name="model test $*" status=0

	said=$(tests/model/run --build "$BUILD" --shim iommufd --slow 6 --verbose "$@" 2>&1) || status=$?
	printf '%s\n' "$said"
	if [ "$status" -eq 0 ]; then
		ok "$name: $(grep '^seed ' <<<"$said" | tail -n 1)"
	else
		not_ok "$name" "$(grep -m 1 -E 'DIVERGENCE|Error|model:' <<<"$said" || tail -n 1 <<<"$said")"
	fi
}
