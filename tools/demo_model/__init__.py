"""How the demo model was trained and is measured; it has seen nothing but drawings that this package makes."""
