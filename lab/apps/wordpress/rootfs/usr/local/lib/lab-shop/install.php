<?php
/**
 * Installs WordPress and fills the shop, once: a later start finds it done and leaves at once.
 */

declare( strict_types=1 );

const TIMEOUT_SECONDS = 60;

require __DIR__ . '/database.php';

/** The database, as soon as it listens. */
function connect(): mysqli {
	$deadline = microtime( true ) + TIMEOUT_SECONDS;
	while ( true ) {
		try {
			return lab_shop_database( '' );
		} catch ( mysqli_sql_exception $failure ) {
			if ( microtime( true ) > $deadline ) {
				throw $failure;
			}
			usleep( 20000 );
		}
	}
}

const NAME = LAB_SHOP_DATABASE;

$database = connect();
$database->query( 'CREATE DATABASE IF NOT EXISTS `' . NAME . '` CHARACTER SET utf8mb4' );
$database->select_db( NAME );
// The option is written last: what an interrupted installation left is not mistaken for a shop.
if ( $database->query( "SHOW TABLES LIKE 'wp_options'" )->num_rows > 0 ) {
	$done = $database->query( "SELECT 1 FROM wp_options WHERE option_name = 'lab_shop_installed'" );
	if ( $done->num_rows > 0 ) {
		exit( 0 );
	}
	$database->query( 'DROP DATABASE `' . NAME . '`' );
	$database->query( 'CREATE DATABASE `' . NAME . '` CHARACTER SET utf8mb4' );
}
$database->close();

echo "lab-shop: installing WordPress\n";
$_SERVER['HTTP_HOST']      = 'localhost';
$_SERVER['REQUEST_METHOD'] = 'GET';
$_SERVER['REQUEST_URI']    = '/';
define( 'WP_INSTALLING', true );

// Both replace functions of WordPress: there is nobody to mail, and no "Hello world" in a shop.
function wp_new_blog_notification(): void {}
function wp_install_defaults(): void {}

require '/usr/share/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';

// With a permalink structure set, WordPress does not try to reach itself to find out about one.
$permalinks = static fn () => '/%postname%/';
add_filter( 'pre_option_permalink_structure', $permalinks );
$password = getenv( 'ADMIN_PASSWORD' ) ?: 'lab';
wp_install( 'Lab Shop', 'admin', 'admin@shop.invalid', true, '', $password );
remove_filter( 'pre_option_permalink_structure', $permalinks );

// Where WP_HOME and WP_SITEURL come from the request, nothing reads the stored address.
$url     = getenv( 'SHOP_URL' ) ?: 'http://localhost';
$options = array(
	'siteurl'                => $url,
	'home'                   => $url,
	'blogdescription'        => 'Useful things for a small home',
	'permalink_structure'    => '/%postname%/',
	'posts_per_page'         => 12,
	'show_avatars'           => 0,
	'default_comment_status' => 'closed',
	'default_ping_status'    => 'closed',
);
foreach ( $options as $name => $value ) {
	update_option( $name, $value );
}
switch_theme( 'lab-shop' );

require __DIR__ . '/products.php';
echo 'lab-shop: putting ' . count( lab_shop_products() ) . " products on the shelves\n";

wp_defer_term_counting( true );
global $wpdb;
$wpdb->query( 'START TRANSACTION' );
$categories = array();
foreach ( lab_shop_products() as $at => $product ) {
	$categories[ $product['category'] ] ??=
		wp_insert_term( $product['category'], 'category' )['term_id'];
	$post = wp_insert_post(
		array(
			'post_title'    => $product['title'],
			'post_content'  => $product['content'],
			'post_excerpt'  => $product['excerpt'],
			'post_status'   => 'publish',
			'post_author'   => 1,
			'post_category' => array( $categories[ $product['category'] ] ),
			'post_date'     => gmdate( 'Y-m-d H:i:s', time() - 60 * ( $at + 1 ) ),
			'meta_input'    => array(
				'price' => $product['price'],
				'shape' => $product['shape'],
				'hue'   => $product['hue'],
			),
		),
		true
	);
	if ( is_wp_error( $post ) ) {
		throw new RuntimeException( $product['title'] . ': ' . $post->get_error_message() );
	}
}
foreach ( lab_shop_pages() as $title => $content ) {
	wp_insert_post(
		array(
			'post_type'    => 'page',
			'post_title'   => $title,
			'post_content' => $content,
			'post_status'  => 'publish',
			'post_author'  => 1,
		)
	);
}
wp_defer_term_counting( false );
$wpdb->query( 'COMMIT' );
flush_rewrite_rules();
foreach ( glob( __DIR__ . '/install.d/*.php' ) as $more ) {
	require $more;
}
update_option( 'lab_shop_installed', gmdate( 'c' ) );
