"""PostgreSQL and Redis from wheels, run for as long as one command needs them."""
