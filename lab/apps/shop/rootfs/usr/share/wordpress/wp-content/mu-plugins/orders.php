<?php
/**
 * Orders, kept in two places that must agree: in the database, and in a journal on the shop's disk.
 *
 * POST /?lab_order=CUSTOMER places one and answers 201 with its number: an order and its lines in
 * one transaction, then, when the database has acknowledged it, a line in the journal.
 * GET /?lab_orders=1 lists the customers, GET /?lab_check=1 compares both places and has the
 * database check all of its tables.
 */

declare( strict_types=1 );

const LAB_JOURNAL = WP_CONTENT_DIR . '/uploads/orders.jsonl';

add_action(
	'init',
	static function (): void {
		$customer = $_GET['lab_order'] ?? null;
		if ( is_string( $customer ) && 'POST' === $_SERVER['REQUEST_METHOD'] ) {
			lab_order( wp_unslash( $customer ) );
		}
		if ( isset( $_GET['lab_orders'] ) ) {
			global $wpdb;
			wp_send_json( $wpdb->get_col( 'SELECT customer FROM lab_orders ORDER BY id' ) );
		}
		if ( isset( $_GET['lab_check'] ) ) {
			wp_send_json( lab_check() );
		}
	},
	100
);

function lab_order( string $customer ): never {
	global $wpdb;
	$pieces = 1 + crc32( $customer ) % 3;
	$done   = $wpdb->query( 'START TRANSACTION' ) !== false
		&& $wpdb->insert( 'lab_orders', compact( 'customer', 'pieces' ) );
	$order  = $wpdb->insert_id;
	for ( $piece = 0; $done && $piece < $pieces; $piece++ ) {
		$line = array(
			'order_id' => $order,
			'product'  => $piece,
		);
		$done = $wpdb->insert( 'lab_order_lines', $line );
	}
	if ( ! $done || false === $wpdb->query( 'COMMIT' ) ) {
		wp_send_json( array( 'error' => $wpdb->last_error ), 500 );
	}
	// One write of a short line at the end of a file is whole or not there.
	file_put_contents( LAB_JOURNAL, json_encode( array( $order, $customer ) ) . "\n", FILE_APPEND );
	wp_send_json( array( 'id' => $order ), 201 );
	exit;
}

/** What the journal knows and the database does not, the other way round, and damaged tables. */
function lab_check(): array {
	global $wpdb;
	$lines   = is_file( LAB_JOURNAL ) ? file( LAB_JOURNAL, FILE_IGNORE_NEW_LINES ) : array();
	$journal = array_column( array_map( 'json_decode', $lines ), 1, 0 );
	$orders  = array_column( $wpdb->get_results( 'SELECT id, customer FROM lab_orders' ), 'customer', 'id' );
	$halves  = $wpdb->get_col(
		'SELECT o.id FROM lab_orders o LEFT JOIN lab_order_lines l ON l.order_id = o.id
		GROUP BY o.id HAVING COUNT(l.id) <> MAX(o.pieces)'
	);
	$tables  = $wpdb->get_col( 'SHOW TABLES' );
	$checked = $wpdb->get_results( 'CHECK TABLE `' . implode( '`, `', $tables ) . '`' );
	$damaged = array_filter( $checked, static fn ( $row ) => 'OK' !== $row->Msg_text );
	return array(
		'orders'      => count( $orders ),
		'tables'      => count( $tables ),
		'only_shop'   => array_diff_assoc( $journal, $orders ),
		'only_database' => array_diff_assoc( $orders, $journal ),
		'halves'      => $halves,
		'damaged'     => array_values( $damaged ),
	);
}
