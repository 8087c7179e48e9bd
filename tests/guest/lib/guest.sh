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

# broker_command [OPTION...]: ioasidd as broker_start runs it.
broker_command()
{
	printf '%s ' "$BUILD/bin/ioasidd" --shim iommufd --keeper /run/ioasid-keeper/sock \
		--policy /tmp/policy.json --listen "tenants=$TENANTS:0666" \
		--listen "admin=$ADMIN:0600" --audit none "$@"
}

# broker_start [OPTION...]: ioasid-keeper as root, ioasidd as a user without privileges, on the
# real IOMMU, with the tenants org/ana and org/bob; sets TENANTS and ADMIN, their sockets.
# ana, bob, admin ARGUMENT...: ioasidctl as one of them.  broker_stop: ends both in order, and checks that they do.
BROKER_UID=61000
broker_start()
{
	local dir=/run/ioasid i
	TENANTS=$dir/tenants.sock ADMIN=$dir/admin.sock
	export TENANTS ADMIN

	# As the units of packaging/systemd say.
	ulimit -n 65536
	ulimit -l unlimited
	mkdir -p "$dir" /run/ioasid-keeper
	chown "$BROKER_UID:$BROKER_UID" "$dir"
	cat >/tmp/policy.json <<-'JSON'
	{"version": 1,
	 "tenants": {"org": {"devices": [{"any": true}]}, "org/ana": {}, "org/bob": {}},
	 "identities": [
	  {"socket": "tenants", "uid": 61001, "role": "tenant", "tenant": "org/ana"},
	  {"socket": "tenants", "uid": 61002, "role": "tenant", "tenant": "org/bob"},
	  {"socket": "admin", "uid": 0, "role": "admin"}]}
	JSON
	"$BUILD/bin/ioasid-keeper" --listen /run/ioasid-keeper/sock --client "$BROKER_UID" --no-fdstore \
		--state /run/ioasid-keeper/state >/tmp/keeper.log 2>&1 &
	keeper_pid=$!
	for ((i = 0; i < 200; i++)); do
		[ ! -S /run/ioasid-keeper/sock ] || break
		sleep 0.05
	done
	chmod 711 /run/ioasid-keeper
	# Not as_user, a function: the signal that ends it would go to a shell around it.
	# shellcheck disable=SC2046 # words without blanks
	setpriv --reuid "$BROKER_UID" --regid "$BROKER_UID" --clear-groups --no-new-privs \
		$(broker_command "$@") >/tmp/ioasidd.log 2>&1 &
	broker_pid=$!
	for ((i = 0; i < 400; i++)); do
		! grep -q '^listening: admin' /tmp/ioasidd.log || return 0
		kill -0 "$broker_pid" 2>/dev/null || break
		sleep 0.05
	done
	not_ok 'ioasidd starts' 'see its log'
	cat /tmp/keeper.log /tmp/ioasidd.log
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

broker_stop()
{
	local status=0

	kill "$broker_pid"
	wait "$broker_pid" || status=$?
	# Not ours to wait for: another process started it.
	[ "$status" -ne 127 ] || while [ -e "/proc/$broker_pid" ]; do sleep 0.1; done
	check 'ioasidd ends in order' test "$status" -eq 0 -o "$status" -eq 127
	status=0
	kill "$keeper_pid"
	wait "$keeper_pid" || status=$?
	check 'ioasid-keeper ends in order' test "$status" -eq 0
	cat /tmp/keeper.log /tmp/ioasidd.log
}

# rpc_suites [OPTION...] [SUITE...]: tests/rpc/run on the machine's own devices.  Its lines count;
# its status says no more.
rpc_suites()
{
	tests/rpc/run --build "$BUILD" --shim iommufd --slow 6 --lines "$@" || true
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
