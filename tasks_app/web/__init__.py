"""The page at `/`: write a prompt, watch the picture form, look through what was made."""
