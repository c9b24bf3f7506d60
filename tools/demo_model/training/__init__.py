"""Training of the demo model: its drawings, its autoencoder, its UNet and its text encoder."""
