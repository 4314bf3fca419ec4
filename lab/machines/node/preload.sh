#!/bin/sh
# Unpacks images into the containerd of a machine's tree, before it is a disk: under emulation the
# machine itself would need minutes. Runs in a mount and a PID namespace of its own.
#
# PRELOAD_TREE    the tree
# PRELOAD_IMAGES  a directory of OCI archives
set -eu

mount --bind "$PRELOAD_TREE" "$PRELOAD_TREE"  # containerd asks what its directory is mounted on
mount --rbind /dev "$PRELOAD_TREE/dev"
mount --rbind /sys "$PRELOAD_TREE/sys"
mount -t proc proc "$PRELOAD_TREE/proc"
mount -t tmpfs tmpfs "$PRELOAD_TREE/run"
mount -t tmpfs tmpfs "$PRELOAD_TREE/tmp"
mkdir "$PRELOAD_TREE/run/images"
mount --bind "$PRELOAD_IMAGES" "$PRELOAD_TREE/run/images"

cat > "$PRELOAD_TREE/run/containerd.toml" <<'CONFIGURATION'
version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
CONFIGURATION
chroot "$PRELOAD_TREE" containerd --config=/run/containerd.toml --log-level=warn &
containerd=$!

tries=0
until chroot "$PRELOAD_TREE" ctr version > /dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then
        echo 'containerd does not answer after 30 s' >&2
        exit 1
    fi
    sleep 0.1
done
for archive in "$PRELOAD_IMAGES"/*.tar; do
    chroot "$PRELOAD_TREE" ctr --namespace=k8s.io images import "/run/images/${archive##*/}"
done
kill "$containerd"
wait "$containerd" || true
