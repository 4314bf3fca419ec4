<?php
/**
 * What tests ask of the shop. For the lab only: anybody may write.
 *
 * POST /?lab_write=TEXT creates a product with that title, GET /?lab_posts=1 lists all titles, and
 * each page says in a comment at its end how many there are and which host rendered it.
 */

declare( strict_types=1 );

add_action(
	'init',
	static function (): void {
		$text = $_GET['lab_write'] ?? null;
		if ( is_string( $text ) && 'POST' === $_SERVER['REQUEST_METHOD'] ) {
			lab_write( wp_unslash( $text ) );
		}
		if ( isset( $_GET['lab_posts'] ) ) {
			wp_send_json( lab_titles() );
		}
	},
	100
);

add_action(
	'wp_footer',
	static function (): void {
		printf(
			"\n<!-- lab: %d posts, rendered by %s -->\n",
			count( lab_titles() ),
			esc_html( str_replace( '--', '', (string) gethostname() ) )
		);
	},
	100
);

function lab_write( string $title ): never {
	$post = wp_insert_post(
		wp_slash(
			array(
				'post_title'   => $title,
				'post_content' => 'Written by a test.',
				'post_status'  => 'publish',
				'post_author'  => 1,
				'meta_input'   => array(
					'price' => '1.00',
					'shape' => 'book',
					'hue'   => crc32( $title ) % 360,
				),
			)
		),
		true
	);
	if ( is_wp_error( $post ) ) {
		wp_send_json( array( 'error' => $post->get_error_message() ), 500 );
	}
	wp_send_json(
		array(
			'id'    => $post,
			'title' => $title,
		),
		201
	);
	exit;
}

/** The titles of all published posts, the newest first. */
function lab_titles(): array {
	global $wpdb;
	return $wpdb->get_col(
		"SELECT post_title FROM $wpdb->posts
		WHERE post_type = 'post' AND post_status = 'publish' ORDER BY post_date DESC, ID DESC"
	);
}
