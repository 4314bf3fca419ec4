<?php
/**
 * Where the shop's database is: on this container's own socket or, where DB_HOST is set, elsewhere.
 */

declare( strict_types=1 );

/** Written where a demo gets a database of its own after a restore: name, user and password. */
const LAB_SHOP_OWN_DATABASE = '/var/lib/lab-shop/own/database.json';

( static function (): void {
	$host     = getenv( 'DB_HOST' );
	$database = array(
		'name'     => getenv( 'DB_NAME' ) ?: 'shop',
		// root is known to its own database by its user id: all processes here are root.
		'user'     => $host ? ( getenv( 'DB_USER' ) ?: 'shop' ) : 'root',
		'password' => (string) getenv( 'DB_PASSWORD' ),
	);
	if ( is_readable( LAB_SHOP_OWN_DATABASE ) ) {
		$own      = file_get_contents( LAB_SHOP_OWN_DATABASE );
		$database = json_decode( $own, true, 2, JSON_THROW_ON_ERROR );
	}
	define( 'LAB_SHOP_HOST', $host ?: 'localhost' );
	define( 'LAB_SHOP_SOCKET', $host ? null : '/run/mysqld/mysqld.sock' );
	define( 'LAB_SHOP_USER', $database['user'] );
	define( 'LAB_SHOP_PASSWORD', $database['password'] );
	define( 'LAB_SHOP_DATABASE', $database['name'] );
} )();

function lab_shop_database( string $name = LAB_SHOP_DATABASE ): mysqli {
	return new mysqli( LAB_SHOP_HOST, LAB_SHOP_USER, LAB_SHOP_PASSWORD, $name, 0, LAB_SHOP_SOCKET );
}
