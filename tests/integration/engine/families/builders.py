"""One small builder for each family: its own pipeline class, with tiny components and random weights."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    KandinskyV22CombinedPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    ModelMixin,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PriorTransformer,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.integration.engine.families import words
from tests.integration.engine.families.words import HIDDEN

HEADS = {"num_attention_heads": 2, "attention_head_dim": 8}


def _vae(**more: Any) -> AutoencoderKL:
    """Create a VAE with 8×8 pixels per latent pixel, which some pipelines assume."""
    sizes = {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "sample_size": 32, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(**sizes, **blocks, **more)


def _flow_vae() -> AutoencoderKL:
    return _vae(shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False)


def _unet(**more: Any) -> UNet2DConditionModel:
    sizes = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "cross_attention_dim": HIDDEN,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**{**sizes, **more})


def _no_checker() -> dict[str, Any]:
    return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def sd() -> DiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=words.clip(),
        tokenizer=words.clip_tokenizer(),
        unet=_unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        **_no_checker(),
    )


def sdxl() -> DiffusionPipeline:
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=words.clip(),
        text_encoder_2=words.clip_with_projection(),
        tokenizer=words.clip_tokenizer(),
        tokenizer_2=words.clip_tokenizer(),
        unet=_unet(
            cross_attention_dim=2 * HIDDEN,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + HIDDEN,
            transformer_layers_per_block=(1, 1),
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(),
    )


def lcm() -> DiffusionPipeline:
    return LatentConsistencyModelPipeline(
        vae=_vae(),
        text_encoder=words.clip(),
        tokenizer=words.clip_tokenizer(),
        unet=_unet(time_cond_proj_dim=16),
        scheduler=LCMScheduler(original_inference_steps=50),
        **_no_checker(),
    )


def sd3() -> DiffusionPipeline:
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            joint_attention_dim=2 * HIDDEN,
            caption_projection_dim=16,
            pooled_projection_dim=2 * HIDDEN,
            **HEADS,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flow_vae(),
        text_encoder=words.clip_with_projection(),
        tokenizer=words.clip_tokenizer(),
        text_encoder_2=words.clip_with_projection(),
        tokenizer_2=words.clip_tokenizer(),
        text_encoder_3=words.t5(2 * HIDDEN),
        tokenizer_3=words.t5_tokenizer(),
    )


def _flux(*, guidance_embeds: bool) -> DiffusionPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance_embeds),
        vae=_flow_vae(),
        text_encoder=words.clip(),
        tokenizer=words.clip_tokenizer(),
        text_encoder_2=words.t5(),
        tokenizer_2=words.t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=HIDDEN,
            pooled_projection_dim=HIDDEN,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(2, 2, 4),
            **HEADS,
        ),
    )


def flux_dev() -> DiffusionPipeline:
    return _flux(guidance_embeds=True)


def flux_schnell() -> DiffusionPipeline:
    return _flux(guidance_embeds=False)


def chroma() -> DiffusionPipeline:
    return ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(),
        text_encoder=words.t5(),
        tokenizer=words.t5_tokenizer(),
        transformer=ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=HIDDEN,
            axes_dims_rope=(2, 2, 4),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
            **HEADS,
        ),
    )


def pixart_sigma() -> DiffusionPipeline:
    return PixArtSigmaPipeline(
        tokenizer=words.t5_tokenizer(),
        text_encoder=words.t5(),
        vae=_vae(),
        transformer=PixArtTransformer2DModel(
            sample_size=32,  # bins of 256×256 pixels, the smallest
            num_layers=1,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=16,
            caption_channels=HIDDEN,
            use_additional_conditions=False,
            **HEADS,
        ),
        scheduler=DPMSolverMultistepScheduler(),
    )


def sana() -> DiffusionPipeline:
    levels = 6  # 32×32 pixels per latent pixel
    plain = ("ResBlock",) * (levels - 1)
    blocks = {f"{half}_block_types": (*plain, "EfficientViTBlock") for half in ("encoder", "decoder")}
    sizes = {f"{half}_block_out_channels": (8,) * levels for half in ("encoder", "decoder")}
    layers = {f"{half}_layers_per_block": (1,) * levels for half in ("encoder", "decoder")}
    scales = {f"{half}_qkv_multiscales": (*((),) * (levels - 1), (5,)) for half in ("encoder", "decoder")}
    return SanaPipeline(
        tokenizer=words.gemma_tokenizer(),
        text_encoder=words.gemma(),
        vae=AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.4,
            **blocks,
            **sizes,
            **layers,
            **scales,
        ),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=HIDDEN,
            sample_size=16,  # bins of 512×512 pixels, the smallest
            **HEADS,
        ),
        scheduler=DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
    )


def _prior() -> PriorTransformer:
    prior = PriorTransformer(num_layers=1, embedding_dim=HIDDEN, **HEADS)
    # Published priors have the spread of CLIP's embeddings here; with zero, nothing of the prompt would be left.
    torch.nn.init.ones_(prior.clip_std)
    return prior


def kandinsky22() -> DiffusionPipeline:
    vision = CLIPVisionConfig(
        hidden_size=HIDDEN,
        projection_dim=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return KandinskyV22CombinedPipeline(
        unet=_unet(
            sample_size=8,
            in_channels=4,
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            encoder_hid_dim=HIDDEN,
            encoder_hid_dim_type="image_proj",
            resnet_time_scale_shift="scale_shift",
        ),
        scheduler=DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, variance_type="learned_range"
        ),
        movq=VQModel(
            block_out_channels=(32, 32, 32, 32),  # spatial norms have 32 groups
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            num_vq_embeddings=12,
            norm_type="spatial",
            vq_embed_dim=4,
        ),
        prior_prior=_prior(),
        prior_image_encoder=CLIPVisionModelWithProjection(vision),
        prior_text_encoder=words.clip_with_projection(),
        prior_tokenizer=words.clip_tokenizer(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        prior_image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )


def _louder(transformer: ModelMixin, times: float) -> ModelMixin:
    """Scale up weights whose effect of the prompt on images is so small that rounding hides it on some CPUs."""
    with torch.no_grad():
        for weight in transformer.parameters():
            weight.mul_(times)
    return transformer


def auraflow() -> DiffusionPipeline:
    return AuraFlowPipeline(
        tokenizer=words.t5_tokenizer(),
        text_encoder=words.umt5(),
        vae=_vae(),
        transformer=_louder(
            AuraFlowTransformer2DModel(
                sample_size=16,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                joint_attention_dim=HIDDEN,
                caption_projection_dim=16,
                pos_embed_max_size=4096,
                **HEADS,
            ),
            3,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def lumina2() -> DiffusionPipeline:
    return Lumina2Pipeline(
        transformer=Lumina2Transformer2DModel(
            sample_size=8,
            in_channels=4,
            hidden_size=16,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(300, 32, 32),
            cap_feat_dim=HIDDEN,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(),
        text_encoder=words.gemma(),
        tokenizer=words.gemma_tokenizer(),
    )


def qwenimage() -> DiffusionPipeline:
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=words.qwen2_5_vl(),
        tokenizer=words.qwen_tokenizer(),
        transformer=_louder(
            QwenImageTransformer2DModel(
                in_channels=16,
                out_channels=4,
                num_layers=1,
                joint_attention_dim=HIDDEN,
                axes_dims_rope=(2, 2, 4),
                **HEADS,
            ),
            3,
        ),
    )


def z_image() -> DiffusionPipeline:
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flow_vae(),
        text_encoder=words.qwen3(),
        tokenizer=words.qwen_tokenizer(),
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=16,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=HIDDEN,
            axes_dims=[4, 2, 2],
            axes_lens=[1024, 128, 128],
        ),
    )


def hunyuandit() -> DiffusionPipeline:
    return HunyuanDiTPipeline(
        vae=_vae(),
        text_encoder=words.bert(),
        tokenizer=words.bert_tokenizer(),
        text_encoder_2=words.t5(),
        tokenizer_2=words.t5_tokenizer(),
        transformer=HunyuanDiT2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            cross_attention_dim=HIDDEN,
            cross_attention_dim_t5=HIDDEN,
            pooled_projection_dim=16,
            **HEADS,
        ),
        scheduler=DDPMScheduler(beta_end=0.018, prediction_type="v_prediction", steps_offset=1),
        **_no_checker(),
    )


BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd": sd,
    "sdxl": sdxl,
    "lcm": lcm,
    "sd3": sd3,
    "flux-dev": flux_dev,
    "flux-schnell": flux_schnell,
    "chroma": chroma,
    "pixart-sigma": pixart_sigma,
    "sana": sana,
    "kandinsky22": kandinsky22,
    "auraflow": auraflow,
    "lumina2": lumina2,
    "qwenimage": qwenimage,
    "z-image": z_image,
    "hunyuandit": hunyuandit,
}


def build(family: str) -> DiffusionPipeline:
    """Build a pipeline; its weights are always the same."""
    torch.manual_seed(0)
    return BUILDERS[family]()
