"""Speed: products, convolutions and threads. Arrays in, arrays out; no layer is known here."""
