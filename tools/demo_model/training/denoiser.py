"""The UNet and the text encoder, trained together on the latents of the drawings."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.demo_model.training.autoencoder import LATENT_CHANNELS
from tools.demo_model.training.loop import Loop
from tools.demo_model.training.words import LENGTH

BATCH = 32
PEAK = 8e-4
WIDTH = 128
EMPTY_SHARE = 0.1
GAMMA = 5.0
EMA_DECAY = 0.999


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """The UNet and the text encoder, which generate latents from prompts and noise."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel


def scheduler() -> DDIMScheduler:
    """Return the schedule: its last step is pure noise; otherwise black and flat images come out grey."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
    )


def build_unet() -> UNet2DConditionModel:
    """Return an untrained UNet for 16×16 latents.

    In addition to cross-attention, every block receives a pooled form of the prompt along with the time embedding
    (`addition_embed_type`), which makes the model learn colours several times faster.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        use_linear_projection=True,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder for a vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Return the captions as the token ids that the pipeline passes to the text encoder."""
    found = tokenizer(captions, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    ids: torch.Tensor = found.input_ids
    return ids


def weights(schedule: DDIMScheduler) -> torch.Tensor:
    """Return each timestep's loss weight: min-SNR for v-prediction, plus one, so that pure noise counts too."""
    kept = schedule.alphas_cumprod
    snr = kept / (1 - kept)
    weights: torch.Tensor = (snr + 1).clamp(max=GAMMA) / (snr + 1)
    return weights


def train(
    latents: torch.Tensor,
    captions: list[str],
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    steps: int,
    seed: int,
    device: str,
) -> Denoiser:
    """Train the UNet and the text encoder, resuming if possible, and return their averaged weights."""
    torch.manual_seed(seed)
    unet, text_encoder = build_unet().to(device), build_text_encoder(tokenizer).to(device)
    # For so few positions PyTorch's fused attention takes a third of a CPU's step; this computes the same.
    unet.set_attn_processor(AttnProcessor())
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    ema = EMAModel(parameters, decay=EMA_DECAY, use_ema_warmup=True, power=0.75, foreach=True)
    optimizer = torch.optim.AdamW(parameters, lr=PEAK, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    loop = Loop(
        name="UNet and text encoder",
        steps=steps,
        peak=PEAK,
        checkpoint=folder / "denoiser.pt",
        optimizer=optimizer,
        parts={"unet": unet, "text_encoder": text_encoder, "ema": ema},
    )
    loop.resume()
    schedule, words, empty = scheduler(), tokens(tokenizer, captions), tokens(tokenizer, [""])
    weight = weights(schedule)

    def loss_of(step: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(captions), (BATCH,), generator=random)
        prompts = torch.where(torch.rand(BATCH, 1, generator=random) < EMPTY_SHARE, empty, words[chosen])
        clean = latents[chosen].float()
        noise = torch.randn(clean.shape, generator=random)
        # Sample one timestep from each of BATCH equal parts of the schedule, which has less variance than sampling all
        # freely.
        times = ((torch.arange(BATCH) + torch.rand(BATCH, generator=random)) * len(weight) / BATCH).long()
        noisy, aim = schedule.add_noise(clean, noise, times), schedule.get_velocity(clean, noise, times)
        with torch.autocast(device, dtype=torch.bfloat16):
            states = text_encoder(prompts.to(device)).last_hidden_state
            guess = unet(noisy.to(device), times.to(device), states).sample.float()
        errors = (guess - aim.to(device)).square().mean(dim=(1, 2, 3))
        loss: torch.Tensor = (errors * weight[times].to(device)).mean()
        return loss

    loop.run(loss_of, after=lambda _: ema.step(parameters))
    ema.copy_to(parameters)
    return Denoiser(unet=unet, text_encoder=text_encoder)
