<?php
/**
 * GET /?lab_identity=1: what a copy of the shop takes for its own, for docs/identity.md.
 */

declare( strict_types=1 );

add_action(
	'init',
	static function (): void {
		if ( ! isset( $_GET['lab_identity'] ) ) {
			return;
		}
		global $wpdb;
		session_start();
		wp_send_json(
			array(
				'home'         => home_url(),
				'session'      => session_id(),
				'nonce'        => wp_create_nonce( 'lab' ),
				'cookie'       => wp_generate_auth_cookie( 1, 2000000000, 'logged_in', 'token' ),
				'random_bytes' => bin2hex( random_bytes( 16 ) ),
				'openssl'      => bin2hex( openssl_random_pseudo_bytes( 16 ) ),
				'mt_rand'      => mt_rand(),
				'lcg_value'    => lcg_value(),
				'uniqid'       => uniqid( '', true ),
				'process'      => getmypid(),
				'host'         => gethostname(),
				'machine_id'   => trim( (string) @file_get_contents( '/etc/machine-id' ) ),
				'database'     => $wpdb->get_row(
					'SELECT UUID() AS uuid, UUID_SHORT() AS uuid_short, RAND() AS rand,
					HEX(RANDOM_BYTES(16)) AS random_bytes, @@server_id AS server_id,
					@@hostname AS hostname, CONNECTION_ID() AS connection, NOW(6) AS now'
				),
			)
		);
	},
	100
);
