#!/bin/sh
# Takes out of the one-container shop what is not its database.
set -eu
# shellcheck disable=SC2046 # a list of words
dpkg --purge --force-depends $(dpkg-query --show --showformat='${db:Status-Abbrev} ${binary:Package}\n' \
    'nginx*' 'php*' 'wordpress*' 'javascript-common' 'libjs-*' 2>/dev/null | sed -n 's/^ii  *//p') 2>/dev/null
rm -rf /usr/share/wordpress /etc/wordpress /usr/local/lib/lab-shop /etc/lab-shop/php* /etc/lab-shop/nginx.conf \
    /etc/lab-shop/fastcgi_params
