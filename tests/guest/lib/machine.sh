# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# From a job's declarations to QEMU's arguments.  Sourced by tests/guest/run; pure but for
# reading the variables that a job file sets, and making the files of disks.
# shellcheck disable=SC2054 # the commas are QEMU's

# Before a job file is read: what it does not say.
machine_defaults()
{
	iommu=legacy            # legacy, scalable, first-stage, none
	iommu_options=''        # more properties of intel-iommu: ",aw-bits=48"
	devices=()              # see machine_devices
	memory=1G
	cpus=1
	append=''               # more kernel arguments
	limit=120               # seconds for boot and job
	wants_qemu10=no         # yes: the job runs VMs, by $QEMU10, with $RESULTS/kernel
	clock=real              # arm64: "skip" leaves out the time in which the guest waits
	unset -f job
}

# Does this job need QEMU 10?
machine_needs_qemu10()
{
	[ "$iommu" = first-stage ] || [ "$wants_qemu10" = yes ]
}

machine_kernel_arguments()
{
	if [ "$arch" = arm64 ]; then
		printf 'console=ttyAMA0 panic=-1 acpi=force'
		[ -z "$append" ] || printf ' %s' "$append"
		return
	fi
	# no_timer_check: without it the kernel's test of the timer interrupt fails at times
	# where QEMU gets little CPU time, and the boot ends in a panic.
	printf 'console=ttyS0 no_timer_check panic=-1 hugepages=64'
	case $iommu in
	legacy) printf ' intel_iommu=on,sm_off' ;;
	scalable | first-stage) printf ' intel_iommu=on,sm_on' ;;
	esac
	[ -z "$append" ] || printf ' %s' "$append"
}

# One device; $2 is ",bus=...,addr=..." or nothing.  machine_parts counts what is behind them.
machine_device()
{
	case $1 in
	# The default mask has 28 bits, and the device cuts addresses without a word.
	edu) args+=(-device "edu,dma_mask=0xffffffffffff$2") ;;
	e1000e | igb) args+=(-device "$1,romfile=$2") ;;
	nvme) args+=(-device "nvme,serial=ioasid$2") ;;
	# With something behind them: a network where 10.0.2.2 answers, a disk of 16 MiB.
	nic)
		machine_parts=$((machine_parts + 1))
		args+=(-netdev "user,id=part$machine_parts,restrict=on"
			-device "e1000e,romfile=,netdev=part$machine_parts$2")
		;;
	disk)
		machine_parts=$((machine_parts + 1))
		truncate -s 16M "$machine_share/disk$machine_parts" || return 1
		args+=(-drive "if=none,id=part$machine_parts,format=raw,cache=unsafe,file=${machine_share//,/,,}/disk$machine_parts"
			-device "nvme,serial=ioasid-$machine_parts,drive=part$machine_parts$2")
		;;
	virtio-net) args+=(-device "virtio-net-pci,romfile=,disable-legacy=on$2") ;;
	*) return 1 ;;
	esac
}

# Adds the devices to args.  Each element of "devices" is TYPE[+TYPE...][@PLACE]:
#   edu              on the root complex: a group of its own, no way to reset it
#   edu@port         behind a root port: a group of its own, reset of the bus
#   edu+edu@bridge   behind a root port and a PCI bridge: all in one group
machine_devices()
{
	local item types place number=0 slot type

	for item in "${devices[@]}"; do
		types=${item%@*} place=''
		[ "$types" = "$item" ] || place=${item##*@}
		number=$((number + 1))
		case $place in
		'' | root) place='' ;;
		port | bridge)
			args+=(-device "pcie-root-port,id=port$number,chassis=$number,slot=$number")
			[ "$place" = port ] ||
				args+=(-device "pcie-pci-bridge,id=bridge$number,bus=port$number")
			;;
		*) return 1 ;;
		esac
		slot=0
		while IFS= read -r -d + type; do
			if [ "$place" = bridge ]; then
				slot=$((slot + 1))
				machine_device "$type" ",bus=bridge$number,addr=$slot" || return 1
			elif [ "$place" = port ]; then
				machine_device "$type" ",bus=port$number" || return 1
			else
				machine_device "$type" '' || return 1
			fi
		done <<<"$types+"
	done
}

# The machine around an SMMUv3 that nests, as the kernel's own tests have it: GICv3, ACPI.
machine_arm64()
{
	args=(-nodefaults -no-user-config -machine virt,gic-version=3,iommu=smmuv3
		-global arm-smmuv3.stage=nested -accel tcg,thread=single -cpu cortex-a57
		-m "$memory" -smp "$cpus" -display none -monitor none -no-reboot -bios "$firmware")
	# Timers that the guest waits for expire at once, edu's among them.  Not for jobs in which
	# time-outs matter: the guest's clock runs on while it waits for the host's files.
	[ "$clock" != skip ] || args+=(-icount "shift=0,sleep=off")
	args+=(-fsdev "local,id=tree,path=${root//,/,,},security_model=none,readonly=on,multidevs=remap"
		-device virtio-9p-pci,fsdev=tree,mount_tag=tree
		-fsdev "local,id=build,path=${build//,/,,},security_model=none,readonly=on,multidevs=remap"
		-device virtio-9p-pci,fsdev=build,mount_tag=build)
}

# machine_args SHARE: sets args, all but kernel, initramfs and serial port; disks are in SHARE.  The virtio devices
# bypass the IOMMU (no iommu_platform=on), as they must: they are the harness, not the test.
machine_args()
{
	local vtd=intel-iommu,intremap=on,caching-mode=on machine_share=$1 machine_parts=0

	if [ "$arch" = arm64 ]; then
		machine_arm64
		iommu=none
	else
		args=(-nodefaults -no-user-config -machine q35,kernel-irqchip=split
			-accel tcg,thread=multi -cpu max -m "$memory" -smp "$cpus"
			-display none -monitor none -no-reboot)
	fi
	case $iommu in
	none) ;;
	legacy) args+=(-device "$vtd$iommu_options") ;;
	scalable) args+=(-device "$vtd,x-scalable-mode=on$iommu_options") ;;
	first-stage) args+=(-device "$vtd,x-scalable-mode=on,x-flts=on$iommu_options") ;;
	*)
		echo "iommu=$iommu is not known" >&2
		return 1
		;;
	esac
	args+=(-fsdev "local,id=root,path=${guest_root//,/,,},security_model=none,readonly=on,multidevs=remap"
		-device virtio-9p-pci,fsdev=root,mount_tag=hostroot
		-fsdev "local,id=results,path=${1//,/,,},security_model=none"
		-device virtio-9p-pci,fsdev=results,mount_tag=results)
	machine_devices || {
		echo "devices: '${devices[*]}' is not understood" >&2
		return 1
	}
}
