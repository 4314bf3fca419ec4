#!/bin/sh
# Assembles one application's root file system and writes it as a tar to stdout. Started by
# lab/images.py in a mount namespace of its own, so no mount outlives it.
#
# Environment: ASSEMBLE_TREE (Debian with the packages), ASSEMBLE_APP (the app's folder),
# ASSEMBLE_SCRATCH (an empty directory).
set -eu

cd "$ASSEMBLE_SCRATCH"
mkdir upper work root
mount -t overlay overlay \
    -o "lowerdir=$ASSEMBLE_TREE,upperdir=$PWD/upper,workdir=$PWD/work" root
if [ -d "$ASSEMBLE_APP/rootfs" ]; then
    # Owners in the checkout are whoever cloned it.
    cp -R --no-dereference --preserve=mode,links "$ASSEMBLE_APP/rootfs/." root/
fi
if [ -f "$ASSEMBLE_APP/prepare.sh" ]; then
    mount -t proc proc root/proc
    mount --rbind /dev root/dev
    mount -t tmpfs tmpfs root/run
    cp "$ASSEMBLE_APP/prepare.sh" root/run/prepare.sh
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        chroot root sh -eu /run/prepare.sh >&2
    umount -l root/run root/dev root/proc
fi
tar --create --numeric-owner --xattrs --directory=root .
