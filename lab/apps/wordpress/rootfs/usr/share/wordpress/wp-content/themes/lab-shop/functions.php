<?php
/**
 * What the shop shows beside text: a picture and a price for each product.
 */

declare( strict_types=1 );

require __DIR__ . '/pictures.php';

add_action(
	'init',
	static function (): void {
		foreach ( array( 'picture', 'price' ) as $name ) {
			register_block_type(
				"lab-shop/$name",
				array(
					'api_version'     => 3,
					'uses_context'    => array( 'postId' ),
					'render_callback' => "lab_shop_$name",
				)
			);
		}
		// The fallback for emoji is a script that asks the internet for pictures.
		remove_action( 'wp_head', 'print_emoji_detection_script', 7 );
		remove_action( 'wp_print_styles', 'print_emoji_styles' );
	}
);

add_action(
	'wp_enqueue_scripts',
	static function (): void {
		wp_enqueue_style( 'lab-shop', get_stylesheet_uri(), array(), '1.0' );
	}
);

function lab_shop_picture( array $attributes, string $content, WP_Block $block ): string {
	$post  = (int) $block->context['postId'];
	$shape = (string) get_post_meta( $post, 'shape', true );
	$hue   = (int) get_post_meta( $post, 'hue', true );
	return sprintf(
		'<a href="%s">%s</a>',
		esc_url( get_permalink( $post ) ),
		lab_shop_svg( $shape, $hue, get_the_title( $post ) )
	);
}

function lab_shop_price( array $attributes, string $content, WP_Block $block ): string {
	$price = get_post_meta( (int) $block->context['postId'], 'price', true );
	return $price ? sprintf( '<div class="shop-price">€ %s</div>', esc_html( $price ) ) : '';
}
