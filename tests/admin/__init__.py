"""The admin: everything to be seen, nothing changed but by a confirmed POST, and nobody acts without permission."""
