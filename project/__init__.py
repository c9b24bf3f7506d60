"""Settings, URLs and the embedded servers."""
