"""Actions of the admin that ask for confirmation."""
