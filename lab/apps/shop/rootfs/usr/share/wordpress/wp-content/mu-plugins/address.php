<?php
/**
 * The shop has one address, which is in its database, and sends everybody there who came by another:
 * as PrestaShop and Magento do, and WordPress with most of its shop plugins.
 */

declare( strict_types=1 );

add_action(
	'template_redirect',
	static function (): void {
		$home = wp_parse_url( home_url() );
		$port = isset( $home['port'] ) ? ":{$home['port']}" : '';
		if ( strtolower( $_SERVER['HTTP_HOST'] ?? '' ) !== strtolower( $home['host'] . $port ) ) {
			wp_redirect( home_url( $_SERVER['REQUEST_URI'] ), 301 );
			exit;
		}
	},
	0
);
