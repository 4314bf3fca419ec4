<?php
/**
 * The lab shop's configuration, read by Debian's wp-config.php for every host name.
 */

// root is known to the database by its user id: all processes here are root.
define( 'DB_NAME', 'shop' );
define( 'DB_USER', 'root' );
define( 'DB_PASSWORD', '' );
define( 'DB_HOST', 'localhost:/run/mysqld/mysqld.sock' );
define( 'DB_CHARSET', 'utf8mb4' );

// The shop lives wherever it was asked for, so each thawed copy works under its own host and port.
( function () {
	$home = getenv( 'WP_HOME' );
	if ( ! $home ) {
		$host = $_SERVER['HTTP_HOST'] ?? '';
		if ( ! preg_match( '/^[A-Za-z0-9.-]+(:\d+)?$|^\[[0-9A-Fa-f:]+\](:\d+)?$/', $host ) ) {
			$host = 'localhost';
		}
		$https = 'https' === ( $_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '' );
		$home  = ( $https ? 'https://' : 'http://' ) . $host;
	}
	define( 'WP_HOME', $home );
	define( 'WP_SITEURL', $home );
} )();

define( 'WP_CONTENT_DIR', '/usr/share/wordpress/wp-content' );
define( 'WP_DEFAULT_THEME', 'lab-shop' );

// Nothing runs by itself and nothing is asked for on the internet: an idle shop is really idle.
define( 'DISABLE_WP_CRON', true );
define( 'WP_HTTP_BLOCK_EXTERNAL', true );
define( 'AUTOMATIC_UPDATER_DISABLED', true );
define( 'DISALLOW_FILE_MODS', true );
