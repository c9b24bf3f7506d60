"""Draw the images, and train the demo model from scratch: `python -m tools.demo_model.train --help`."""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from tools.demo_model.training import autoencoder, denoiser, words
from tools.demo_model.training.dataset import Drawings, draw_all


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/train-demo"), help="where the checkpoints are kept")
    parser.add_argument("--out", type=Path, default=Path("var/train-demo/demo"), help="where the model goes")
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--autoencoder-steps", type=int, default=2800)
    parser.add_argument("--steps", type=int, default=6000, help="of the UNet and the text encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def _latents(vae: AutoencoderKL, drawings: Drawings, kept: Path, *, device: str) -> torch.Tensor:
    """Return the drawings' latents, cached in a file because encoding takes minutes on a CPU."""
    if not kept.exists():
        torch.save(autoencoder.encode(vae, drawings, device=device), kept)
    latents: torch.Tensor = torch.load(kept, weights_only=True)
    return latents


def main() -> None:
    """Train the model, resuming from checkpoints, and save it."""
    asked = _arguments()
    asked.work.mkdir(parents=True, exist_ok=True)
    drawings = draw_all(asked.seed, asked.pictures)
    common = {"seed": asked.seed, "device": asked.device}
    vae = autoencoder.train(drawings, asked.work, steps=asked.autoencoder_steps, **common)
    latents = _latents(vae, drawings, asked.work / "latents.pt", device=asked.device)
    tokenizer = words.learn(drawings.captions)
    trained = denoiser.train(latents, drawings.captions, tokenizer, asked.work, steps=asked.steps, **common)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=trained.text_encoder,
        tokenizer=tokenizer,
        unet=trained.unet,
        scheduler=denoiser.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(asked.out, safe_serialization=True)


if __name__ == "__main__":
    main()
