"""One worker under many tasks: what grows, and what stays."""
