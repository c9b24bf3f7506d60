"""What the demo model is measured with."""
