#!/bin/sh
# Run by chroot in the tree of a machine, on the machine that builds it.
set -eu

for modules in /usr/lib/modules/*; do
    depmod "${modules##*/}"
done

systemctl enable lab-configuration.service containerd.service kubelet.service kube-proxy.service \
    systemd-networkd.service
# Without a use in a machine that lives for minutes, or waiting for what never comes.
systemctl mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service man-db.timer \
    systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service \
    systemd-firstboot.service systemd-resolved.service xfs_healer_start.service

# Each machine gets its own by its kernel's command line.
: > /etc/machine-id
mkdir -p /etc/lab
# No name server can be reached from here.
echo 'options timeout:1 attempts:1' > /etc/resolv.conf
