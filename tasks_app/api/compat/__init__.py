"""APIs of other services, for clients that already speak them."""
