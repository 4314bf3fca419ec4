<?php
/**
 * The shop's orders, which mu-plugins/orders.php takes.
 */

declare( strict_types=1 );

global $wpdb;
$wpdb->query(
	'CREATE TABLE lab_orders (
		id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		customer VARCHAR(200) NOT NULL,
		pieces INT UNSIGNED NOT NULL
	) ENGINE=InnoDB'
);
$wpdb->query(
	'CREATE TABLE lab_order_lines (
		id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		order_id INT UNSIGNED NOT NULL,
		product BIGINT UNSIGNED NOT NULL,
		KEY (order_id)
	) ENGINE=InnoDB'
);
