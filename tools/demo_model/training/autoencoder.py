"""The autoencoder: 64×64 images to 16×16 latents of eight channels and back."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from tools.demo_model.training.dataset import Drawings
from tools.demo_model.training.loop import Loop

BATCH = 16
PEAK = 2e-3
KL_WEIGHT = 1e-4
EDGE_WEIGHT = 0.5
LATENT_CHANNELS = 8
ENCODE_BATCH = 128


def build() -> AutoencoderKL:
    """Return an untrained autoencoder."""
    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )


def _edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pictures.diff(dim=2), pictures.diff(dim=3)


def _loss(model: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Return the reconstruction loss of images, with an extra term for their edges, plus the KL divergence."""
    with torch.autocast(pictures.device.type, dtype=torch.bfloat16):
        posterior = model.encode(pictures).latent_dist
        back = model.decode(posterior.sample()).sample.float()
    loss: torch.Tensor = functional.l1_loss(back, pictures)
    for ours, theirs in zip(_edges(back), _edges(pictures), strict=True):
        loss = loss + EDGE_WEIGHT * functional.l1_loss(ours, theirs)
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence: torch.Tensor = (mean.square() + logvar.exp() - 1 - logvar).mean()
    return loss + KL_WEIGHT * 0.5 * divergence


def train(drawings: Drawings, folder: Path, *, steps: int, seed: int, device: str) -> AutoencoderKL:
    """Train the autoencoder, resuming if possible, and standardise its latents."""
    torch.manual_seed(seed)
    model = build().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=1e-4)
    loop = Loop(
        name="autoencoder",
        steps=steps,
        peak=PEAK,
        checkpoint=folder / "autoencoder.pt",
        optimizer=optimizer,
        parts={"model": model},
    )
    loop.resume()

    def loss_of(step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        torch.manual_seed(step)
        chosen = torch.randint(len(drawings.captions), (BATCH,), generator=generator)
        return _loss(model, drawings.batch(chosen).to(device))

    loop.run(loss_of)
    model.eval().requires_grad_(False)
    latents = encode(model, drawings, device=device, count=4096)
    standardise(model, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
    return model


@torch.no_grad()
def encode(model: AutoencoderKL, drawings: Drawings, *, device: str, count: int | None = None) -> torch.Tensor:
    """Return the latents of all drawings, or of the first `count`."""
    chosen = torch.arange(len(drawings.captions))[:count].split(ENCODE_BATCH)
    with torch.autocast(device, dtype=torch.bfloat16):
        posteriors = (model.encode(drawings.batch(part).to(device)).latent_dist for part in chosen)
        return torch.cat([posterior.mean.float().cpu() for posterior in posteriors])


@torch.no_grad()
def standardise(model: AutoencoderKL, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Fold a shift and a scale for each channel into the 1×1 convolutions next to the latents.

    Stable Diffusion pipelines support only one factor for all channels, and no shift.
    """
    mean, std = mean.to(model.device), std.to(model.device)
    outwards, inwards = model.quant_conv, model.post_quant_conv
    means, logvars = slice(0, LATENT_CHANNELS), slice(LATENT_CHANNELS, None)
    outwards.weight[means] /= std[:, None, None, None]
    outwards.bias[means] = (outwards.bias[means] - mean) / std
    outwards.bias[logvars] -= 2 * std.log()
    inwards.bias += inwards.weight[:, :, 0, 0] @ mean
    inwards.weight *= std[None, :, None, None]
