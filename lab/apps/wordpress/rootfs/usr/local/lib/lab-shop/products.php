<?php
/**
 * The shop's stock: ten kinds of things in five makes, fifty products in all.
 */

declare( strict_types=1 );

/** Kind -> category, price of the plainest make, and what is said about it. */
const LAB_SHOP_KINDS = array(
	'mug'     => array( 'Kitchen', 9, 'Mug', 'Holds a third of a litre and keeps it warm through a long review.' ),
	'bottle'  => array( 'Kitchen', 18, 'Bottle', 'Closes tight, opens with one hand, fits every bag.' ),
	'bowl'    => array( 'Kitchen', 14, 'Bowl', 'Wide enough for a salad, deep enough for a soup.' ),
	'lamp'    => array( 'Living', 49, 'Lamp', 'A warm light that does not glare at the reader beside you.' ),
	'cushion' => array( 'Living', 24, 'Cushion', 'Firm in the middle, soft at the corners, with a cover that washes.' ),
	'clock'   => array( 'Office', 36, 'Clock', 'Runs without a tick and shows the time from across the room.' ),
	'book'    => array( 'Office', 12, 'Notebook', 'One hundred and sixty pages that lie flat and take any ink.' ),
	'plant'   => array( 'Garden', 21, 'Plant', 'Wants light twice a week and water when it remembers.' ),
	'basket'  => array( 'Garden', 29, 'Basket', 'Carries apples, firewood or the washing, one at a time.' ),
	'bag'     => array( 'Travel', 59, 'Bag', 'Two pockets too many and a strap that does not slip.' ),
);

/** Make -> hue of its pictures, factor on the price, and what is said about it. */
const LAB_SHOP_MAKES = array(
	'Harbour' => array( 205, 1.00, 'The Harbour line is plain and blue: made for every day and for every dishwasher.' ),
	'Orchard' => array( 105, 1.15, 'The Orchard line comes from a workshop between apple trees and smells a little of it.' ),
	'Ember'   => array( 18, 1.25, 'The Ember line is fired, dyed or painted by hand, so no two pieces are quite alike.' ),
	'Dune'    => array( 42, 1.10, 'The Dune line takes its colour from sand and its calm from there, too.' ),
	'Plum'    => array( 305, 1.40, 'The Plum line is the one that guests ask about.' ),
);

/** All products, in the order of the shelves. */
function lab_shop_products(): array {
	$products = array();
	$makes    = array_keys( LAB_SHOP_MAKES );
	$kinds    = array_keys( LAB_SHOP_KINDS );
	foreach ( $makes as $row => $ignored ) {
		foreach ( $kinds as $column => $kind ) {
			// Shifted by one from kind to kind, so that the colours mix on a page.
			$make = $makes[ ( $row + $column ) % count( $makes ) ];
			list( $category, $price, $noun, $about_kind ) = LAB_SHOP_KINDS[ $kind ];
			list( $hue, $factor, $about_make )            = LAB_SHOP_MAKES[ $make ];

			$products[] = array(
				'title'    => "$make $noun",
				'category' => $category,
				'price'    => number_format( round( $price * $factor ) - 0.1, 2 ),
				'shape'    => $kind,
				'hue'      => $hue,
				'excerpt'  => $about_kind,
				'content'  => lab_shop_paragraphs( $about_kind, $about_make )
					. "<!-- wp:list -->\n<ul class=\"wp-block-list\"><!-- wp:list-item -->\n"
					. "<li>In stock, on its way within a day</li>\n<!-- /wp:list-item -->\n\n<!-- wp:list-item -->\n"
					. "<li>Thirty days to change your mind</li>\n<!-- /wp:list-item -->\n\n<!-- wp:list-item -->\n"
					. "<li>Repaired free of charge for two years</li>\n<!-- /wp:list-item --></ul>\n<!-- /wp:list -->",
			);
		}
	}
	return $products;
}

/** Title -> content of the pages beside the products. */
function lab_shop_pages(): array {
	return array(
		'About'    => lab_shop_paragraphs(
			'Lab Shop sells fifty things, and each of them only in a demonstration. The shop in front '
			. 'of you is yours alone: it was restored when you asked for it and is deleted when you are done.',
			'Change what you like. The next person gets a fresh demo.'
		),
		'Delivery' => lab_shop_paragraphs(
			'Parcels leave our imaginary warehouse every working day at four.',
			'What does not please you goes back within thirty days, at our expense.'
		),
	);
}

function lab_shop_paragraphs( string ...$texts ): string {
	$blocks = array_map(
		static fn ( string $text ): string => "<!-- wp:paragraph -->\n<p>$text</p>\n<!-- /wp:paragraph -->\n\n",
		$texts
	);
	return implode( '', $blocks );
}
