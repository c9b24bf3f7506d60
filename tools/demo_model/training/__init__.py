"""What the demo model is trained with: its pictures, its autoencoder, its UNet and text encoder."""
