"""Training and evaluation of the demo model, which is trained only on drawings that this package generates."""
