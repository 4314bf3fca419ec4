<?php
/**
 * Where the shop's database is: on this container's own socket or, where DB_HOST is set, elsewhere.
 */

declare( strict_types=1 );

define( 'LAB_SHOP_HOST', getenv( 'DB_HOST' ) ?: 'localhost' );
define( 'LAB_SHOP_SOCKET', getenv( 'DB_HOST' ) ? null : '/run/mysqld/mysqld.sock' );
// root is known to its own database by its user id: all processes here are root.
define( 'LAB_SHOP_USER', getenv( 'DB_HOST' ) ? ( getenv( 'DB_USER' ) ?: 'shop' ) : 'root' );
define( 'LAB_SHOP_PASSWORD', (string) getenv( 'DB_PASSWORD' ) );

/** Says which database is the copy's own, where that is decided after a thaw. */
const LAB_SHOP_OWN_DATABASE = '/etc/lab-shop/database';

define(
	'LAB_SHOP_DATABASE',
	is_readable( LAB_SHOP_OWN_DATABASE )
		? trim( (string) file_get_contents( LAB_SHOP_OWN_DATABASE ) )
		: ( getenv( 'DB_NAME' ) ?: 'shop' )
);

function lab_shop_database( string $name = LAB_SHOP_DATABASE ): mysqli {
	return new mysqli( LAB_SHOP_HOST, LAB_SHOP_USER, LAB_SHOP_PASSWORD, $name, 0, LAB_SHOP_SOCKET );
}
