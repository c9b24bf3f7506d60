"""The page at `/`: what the server renders, and how it lives in a real browser on the real parts."""
