<?php
/**
 * The lab shop's configuration, read by Debian's wp-config.php for every host name.
 */

require_once '/usr/local/lib/lab-shop/database.php';

define( 'DB_NAME', LAB_SHOP_DATABASE );
define( 'DB_USER', LAB_SHOP_USER );
define( 'DB_PASSWORD', LAB_SHOP_PASSWORD );
define( 'DB_HOST', LAB_SHOP_HOST . ( LAB_SHOP_SOCKET ? ':' . LAB_SHOP_SOCKET : '' ) );
define( 'DB_CHARSET', 'utf8mb4' );

// The shop lives wherever it was asked for, so each demo works under its own host and port;
// unless it has an address of its own (SHOP_URL), which is stored in its database then.
( function () {
	if ( getenv( 'SHOP_URL' ) ) {
		return;
	}
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
