#!/bin/sh
# Takes out of the image what this container never runs: less to push, pull and checkpoint.
set -eu

# WordPress depends on a web server, a database client and an image library; nginx and mysqli do the
# work here, and the shop draws its pictures itself. php-fpm depends on systemd for its unit only.
useless=$(dpkg-query --show --showformat='${db:Status-Abbrev} ${binary:Package}\n' \
    'apache2*' 'fonts-dejavu*' 'libabsl*' 'libaom*' 'libapache2-mod-php*' \
    'libapr*' 'libavif*' 'libcgi*-perl' 'libconfig-inifiles-perl' 'libdav1d*' 'libdbd-*-perl' \
    'libdbi-perl' 'libde265*' 'libgav1*' 'libgd3' 'libheif*' 'libperl*' 'librav1e*' \
    'libsvtav1enc*' 'libterm-readkey-perl' 'libx11*' 'libxcb1' 'libxpm4' 'libyuv0' \
    'perl' 'perl-modules*' 'php-gd' 'php8*-gd' 'ssl-cert' 'systemd' \
    'libsystemd-shared' 2>/dev/null | sed -n 's/^ii  *//p')
# shellcheck disable=SC2086 # a list of words
dpkg --purge --force-depends --force-remove-protected $useless 2>/dev/null

# Five megabytes each; the server, its installation (with the two it calls) and a client are enough.
for tool in /usr/bin/aria_* /usr/bin/myisam* /usr/bin/mariadb-* /usr/bin/mysql* \
    /usr/bin/innochecksum /usr/bin/perror /usr/bin/replace /usr/bin/resolve_stack_dump; do
    case $tool in
        */mariadb-install-db) ;;
        *) rm -f "$tool" ;;
    esac
done

# Only the look of the parent theme's first style is used.
cd /usr/share/wordpress/wp-content/themes/twentytwentyfive
rm -rf styles assets/images screenshot.png
find assets/fonts -mindepth 1 -maxdepth 1 ! -name manrope ! -name fira-code -exec rm -rf {} +

rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
    /usr/share/bash-completion /usr/share/mysql-test /var/lib/wordpress /var/lib/mysql \
    /var/cache/apt /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*.log /var/log/apt
# The server needs its English messages and none of the other languages'.
find /usr/share/mariadb -mindepth 1 -maxdepth 1 -type d \
    ! -name charsets ! -name english -exec rm -rf {} +
