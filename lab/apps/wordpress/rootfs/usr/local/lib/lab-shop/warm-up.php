<?php
/**
 * Renders every page once before the shop is ready, as shops do that keep a cache: the compiled code
 * and the database's pages are in memory then, also in the demos restored later.
 */

declare( strict_types=1 );

const SERVER = 'http://127.0.0.1';
// The address in the shop's links, under which it is asked as well, lest it redirects there.
define( 'SHOP', getenv( 'SHOP_URL' ) ?: SERVER );

function page( string $path ): string {
	// A demo that is started again has an address of its own, which need not be known here.
	$options = array( 'header' => 'Host: ' . substr( SHOP, strlen( 'http://' ) ), 'follow_location' => 0 );
	$html    = file_get_contents( SERVER . $path, false, stream_context_create( array( 'http' => $options ) ) );
	if ( false === $html ) {
		fwrite( STDERR, "lab-shop: a page failed: $path\n" );
		exit( 1 );
	}
	return $html;
}

// The web server was started a moment ago and may not listen yet.
for ( $attempt = 0; $attempt < 250 && ! @fsockopen( '127.0.0.1', 80 ); $attempt++ ) {
	usleep( 20000 );
}

$waiting = array( '/' );
$seen    = array( '/' => true );
while ( $waiting ) {
	// The shop's own links, as a client finds them.
	preg_match_all( '#href="(?:' . SHOP . ')?(/[a-z0-9/-]*)"#', page( array_shift( $waiting ) ), $links );
	foreach ( $links[1] as $path ) {
		if ( ! isset( $seen[ $path ] ) && ! preg_match( '#^/(wp-|feed|comments)|/feed/#', $path ) ) {
			$seen[ $path ] = true;
			$waiting[]     = $path;
		}
	}
}
echo 'lab-shop: rendered ' . count( $seen ) . " pages\n";
