<?php
/**
 * Draws the products: one shape per kind of thing, in the colours of its make.
 */

declare( strict_types=1 );

/** Shape -> its drawing; C is the colour, D a darker and L a lighter one. */
const LAB_SHOP_SHAPES = array(
	'mug'     => '<path d="M250 125h34a34 34 0 0 1 0 76h-34" fill="none" stroke="D" stroke-width="16"/><path d="M130 90h126v110a30 30 0 0 1-30 30h-66a30 30 0 0 1-30-30z" fill="C"/><ellipse cx="193" cy="90" rx="63" ry="13" fill="D"/><path d="M150 120v80" stroke="L" stroke-width="8" stroke-linecap="round"/>',
	'bottle'  => '<rect x="180" y="44" width="40" height="24" rx="6" fill="D"/><path d="M183 68h34v22c0 14 28 22 28 50v78a20 20 0 0 1-20 20h-50a20 20 0 0 1-20-20v-78c0-28 28-36 28-50z" fill="C"/><rect x="155" y="160" width="90" height="40" fill="L"/>',
	'bowl'    => '<path d="M100 120h200c0 70-40 105-100 105s-100-35-100-105z" fill="C"/><ellipse cx="200" cy="120" rx="100" ry="22" fill="D"/><ellipse cx="200" cy="124" rx="78" ry="13" fill="L"/><rect x="165" y="222" width="70" height="12" rx="5" fill="D"/>',
	'lamp'    => '<path d="M160 60h80l36 80H124z" fill="C"/><path d="M124 140h152" stroke="D" stroke-width="8"/><rect x="194" y="144" width="12" height="76" fill="D"/><rect x="150" y="218" width="100" height="16" rx="8" fill="D"/><path d="M140 148h120l28 60H112z" fill="#fff3c4" opacity=".55"/>',
	'cushion' => '<path d="M110 80q90 22 180 0q-20 75 0 150q-90-22-180 0q20-75 0-150z" fill="C"/><path d="M140 112q60 12 120 0M140 198q60-12 120 0" stroke="L" stroke-width="7" fill="none" stroke-linecap="round"/><circle cx="200" cy="155" r="10" fill="D"/>',
	'clock'   => '<circle cx="200" cy="148" r="88" fill="D"/><circle cx="200" cy="148" r="74" fill="#fffdf7"/><path d="M200 148V96M200 148l36 22" stroke="C" stroke-width="9" stroke-linecap="round"/><path d="M200 80v10M200 206v10M132 148h10M258 148h10" stroke="D" stroke-width="6"/><circle cx="200" cy="148" r="8" fill="D"/>',
	'book'    => '<rect x="128" y="58" width="150" height="182" rx="10" fill="D"/><rect x="138" y="64" width="134" height="170" rx="4" fill="#fffdf7"/><rect x="122" y="54" width="146" height="180" rx="10" fill="C"/><rect x="122" y="54" width="24" height="180" rx="8" fill="D"/><rect x="166" y="88" width="80" height="34" rx="4" fill="L"/><path d="M240 54v84l12-12 12 12V54z" fill="L"/>',
	'plant'   => '<path d="M200 168C150 150 130 100 144 62c40 14 60 56 56 106z" fill="#5d9160"/><path d="M200 168c50-18 70-58 62-96-40 8-66 50-62 96z" fill="#79ab6b"/><path d="M200 172c-6-50 0-90 4-122 22 30 22 90-4 122z" fill="#4a7d52"/><path d="M146 168h108l-14 68h-80z" fill="C"/><rect x="138" y="160" width="124" height="20" rx="6" fill="D"/>',
	'basket'  => '<path d="M130 130a70 76 0 0 1 140 0" fill="none" stroke="D" stroke-width="12"/><path d="M106 130h188l-22 100H128z" fill="C"/><path d="M112 156h176M118 182h164M124 208h152" stroke="D" stroke-width="6"/><path d="M150 130l8 100M200 130v100M250 130l-8 100" stroke="L" stroke-width="6"/>',
	'bag'     => '<path d="M160 110V92a40 40 0 0 1 80 0v18" fill="none" stroke="D" stroke-width="12"/><rect x="112" y="104" width="176" height="132" rx="20" fill="C"/><path d="M112 140q88 44 176 0" fill="none" stroke="D" stroke-width="8"/><rect x="184" y="150" width="32" height="26" rx="5" fill="L"/>',
);

/** The picture of a product, 4:3. */
function lab_shop_svg( string $shape, int $hue, string $title ): string {
	$drawing = strtr(
		LAB_SHOP_SHAPES[ $shape ] ?? LAB_SHOP_SHAPES['book'],
		array(
			'"C"' => "\"hsl($hue 48% 50%)\"",
			'"D"' => "\"hsl($hue 45% 34%)\"",
			'"L"' => "\"hsl($hue 60% 78%)\"",
		)
	);
	return sprintf(
		'<svg class="shop-picture" viewBox="0 0 400 300" role="img" aria-label="%s">'
		. '<rect width="400" height="300" fill="hsl(%d 38%% 91%%)"/>'
		. '<ellipse cx="200" cy="240" rx="130" ry="14" fill="hsl(%d 25%% 78%%)"/>%s</svg>',
		esc_attr( $title ),
		$hue,
		$hue,
		$drawing
	);
}
