#!/bin/sh
# Becomes a node: turns the fresh mount namespace it is started in into a machine of its own and
# stays as its process 1. Started by lab/nodes.py in new mount, PID, IPC, UTS and cgroup namespaces
# and in the node's network namespace.
#
# Environment: HOLD_NAME (host name), HOLD_LOWER, HOLD_UPPER, HOLD_WORK, HOLD_ROOT (overlay),
# HOLD_BINDS (a file with lines "source target ro|rw"), HOLD_NR_OPEN (a file, or empty),
# HOLD_OWN_NETWORK (yes, or no where the network namespace is the control plane's).
set -eu

mount -t overlay overlay \
    -o "lowerdir=$HOLD_LOWER,upperdir=$HOLD_UPPER,workdir=$HOLD_WORK" "$HOLD_ROOT"

mount -t proc proc "$HOLD_ROOT/proc"
# CRIU raises NOFILE to fs.nr_open; without CAP_SYS_RESOURCE it cannot go beyond the hard limit.
if [ -n "$HOLD_NR_OPEN" ]; then
    mount --bind "$HOLD_NR_OPEN" "$HOLD_ROOT/proc/sys/fs/nr_open"
fi
mount -t sysfs sysfs "$HOLD_ROOT/sys"
mount -t cgroup2 cgroup2 "$HOLD_ROOT/sys/fs/cgroup"
mount --rbind /dev "$HOLD_ROOT/dev"
# Podman keeps its locks in /dev/shm: two nodes must never share them.
mount -t tmpfs -o mode=1777 tmpfs "$HOLD_ROOT/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$HOLD_ROOT/run"
mount -t tmpfs -o mode=1777 tmpfs "$HOLD_ROOT/tmp"
mkdir -p "$HOLD_ROOT/run/lock" "$HOLD_ROOT/run/podman"

while read -r source target mode; do
    mkdir -p "$HOLD_ROOT$target"
    mount --bind "$source" "$HOLD_ROOT$target"
    if [ "$mode" = ro ]; then
        mount -o remount,bind,ro "$HOLD_ROOT$target"
    fi
done < "$HOLD_BINDS"

hostname "$HOLD_NAME"

# CRIU refuses a chroot ("The root task has another root than mntns"), so the root is really
# changed. The old root lands on the same place, and is then taken away.
cd "$HOLD_ROOT"
pivot_root . .
umount -l .
cd /
# As systemd has it: what a container mounts for its node has to come to the node.
mount --make-rshared /

echo 1 > /proc/sys/net/ipv4/ip_forward
# The network namespace outlives the node being switched off, but a machine that starts has neither
# rules nor bridges left of its containers.
if [ "$HOLD_OWN_NETWORK" = yes ]; then
    nft flush ruleset
    for link in /sys/class/net/*; do
        case "${link##*/}" in
            lo | eth0) ;;
            *) ip link delete "${link##*/}" || true ;;
        esac
    done
fi

exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin catatonit -P
