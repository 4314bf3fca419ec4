#!/bin/sh
# Takes the database out of the one-container shop.
set -eu
# shellcheck disable=SC2046 # a list of words
dpkg --purge --force-depends $(dpkg-query --show --showformat='${db:Status-Abbrev} ${binary:Package}\n' \
    'mariadb-*' 'galera*' 2>/dev/null | sed -n 's/^ii  *//p') 2>/dev/null
rm -rf /usr/bin/mariadb* /usr/share/mariadb /etc/lab-shop/mariadb*
mkdir -p /usr/share/wordpress/wp-content/uploads /var/lib/lab-shop/own
