#!/bin/sh
# Becomes a node: turns the fresh mount namespace it is started in into a machine of its own and
# stays as its process 1. Started by lab/nodes.py in new mount, PID, IPC, UTS and cgroup namespaces
# and in the node's network namespace.
#
# Environment: INIT_NAME (host name), INIT_LOWER, INIT_UPPER, INIT_WORK, INIT_ROOT (overlay),
# INIT_BINDS (a file with lines "source target ro|rw"), INIT_NR_OPEN (a file, or empty),
# INIT_OWN_NETWORK (yes, or no where the network namespace is the control plane's).
set -eu

mount -t overlay overlay \
    -o "lowerdir=$INIT_LOWER,upperdir=$INIT_UPPER,workdir=$INIT_WORK" "$INIT_ROOT"

mount -t proc proc "$INIT_ROOT/proc"
# CRIU raises NOFILE to fs.nr_open; without CAP_SYS_RESOURCE it cannot go beyond the hard limit.
if [ -n "$INIT_NR_OPEN" ]; then
    mount --bind "$INIT_NR_OPEN" "$INIT_ROOT/proc/sys/fs/nr_open"
fi
mount -t sysfs sysfs "$INIT_ROOT/sys"
mount -t cgroup2 cgroup2 "$INIT_ROOT/sys/fs/cgroup"
mount --rbind /dev "$INIT_ROOT/dev"
# Podman keeps its locks in /dev/shm: two nodes must never share them.
mount -t tmpfs -o mode=1777 tmpfs "$INIT_ROOT/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$INIT_ROOT/run"
mount -t tmpfs -o mode=1777 tmpfs "$INIT_ROOT/tmp"
mkdir -p "$INIT_ROOT/run/lock" "$INIT_ROOT/run/podman"

while read -r source target mode; do
    mkdir -p "$INIT_ROOT$target"
    mount --bind "$source" "$INIT_ROOT$target"
    if [ "$mode" = ro ]; then
        mount -o remount,bind,ro "$INIT_ROOT$target"
    fi
done < "$INIT_BINDS"

hostname "$INIT_NAME"

# CRIU refuses a chroot ("The root task has another root than mntns"), so the root is really
# changed. The old root lands on the same place, and is then taken away.
cd "$INIT_ROOT"
pivot_root . .
umount -l .
cd /
# As systemd has it: what a container mounts for its node has to come to the node.
mount --make-rshared /

echo 1 > /proc/sys/net/ipv4/ip_forward
# The network namespace outlives the node being switched off, but a machine that starts has neither
# rules nor bridges left of its containers.
if [ "$INIT_OWN_NETWORK" = yes ]; then
    nft flush ruleset
    for link in /sys/class/net/*; do
        case "${link##*/}" in
            lo | eth0) ;;
            *) ip link delete "${link##*/}" || true ;;
        esac
    done
fi

exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin catatonit -P
