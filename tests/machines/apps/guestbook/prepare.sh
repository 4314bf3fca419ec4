#!/bin/sh
# Takes out of the image what the guestbook never needs.
set -eu
rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
    /usr/share/bash-completion /usr/share/zoneinfo /var/cache/apt /var/cache/debconf/*-old \
    /var/lib/dpkg/*-old /var/log/*.log /var/log/apt
useradd --system --no-create-home guestbook
usermod --append --groups redis guestbook
mkdir -p /srv/redis
chown redis:redis /srv/redis
