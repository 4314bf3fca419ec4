<?php
/**
 * Ready means: installed, warmed up, and the database answers a query.
 */

require '/usr/local/lib/lab-shop/database.php';

header( 'Content-Type: text/plain' );
header( 'Cache-Control: no-store' );

function not_ready( string $why ): never {
	http_response_code( 503 );
	exit( "$why\n" );
}

if ( ! file_exists( '/run/lab-shop.ready' ) ) {
	not_ready( 'starting' );
}
try {
	$database = lab_shop_database();
	$posts    = $database->query( 'SELECT COUNT(*) FROM wp_posts' )->fetch_row()[0];
} catch ( mysqli_sql_exception $failure ) {
	not_ready( $failure->getMessage() );
}
echo $posts > 0 ? "ok\n" : not_ready( 'no posts' );
