#!/bin/sh
# Takes out of the image what one Python process never needs.
set -eu
rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
    /usr/share/bash-completion /var/cache/apt /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*.log /var/log/apt
mkdir -p /data
