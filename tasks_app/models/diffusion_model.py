"""Models that clients can request, with their load options and default parameters."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class DiffusionModel(models.Model):
    """A model that clients can request, with its load options and the defaults of omitted parameters."""

    class Offload(models.TextChoices):
        """Parts of a model that are moved off the accelerator while they are idle."""

        NONE = "none", "nothing"
        MODEL = "model", "components at rest"
        SEQUENTIAL = "sequential", "layers at rest"

    class Dtype(models.TextChoices):
        """Numeric precision of a model; empty means the server's setting."""

        FLOAT32 = "float32"
        FLOAT16 = "float16"
        BFLOAT16 = "bfloat16"

    class AttentionBackend(models.TextChoices):
        """Attention backends by their Diffusers names; those that fetch code from the Hub are left out."""

        NATIVE = "native"
        NATIVE_CUDNN = "_native_cudnn"
        NATIVE_EFFICIENT = "_native_efficient"
        NATIVE_FLASH = "_native_flash"
        NATIVE_MATH = "_native_math"
        FLEX = "flex"
        FLASH = "flash"
        FLASH_3 = "_flash_3"
        SAGE = "sage"
        XFORMERS = "xformers"

    class StepCache(models.TextChoices):
        """Methods of reusing results of one denoising step in the next instead of computing them."""

        FIRST_BLOCK = "first_block"
        TAYLORSEER = "taylorseer"
        PYRAMID_ATTENTION = "pyramid_attention"

    class Quantization(models.TextChoices):
        """Number formats for the quantized weights of the denoiser."""

        INT8 = "int8"
        INT8_DYNAMIC = "int8_dynamic"
        FLOAT8 = "float8"
        NF4 = "nf4"

    model_id = models.CharField(
        "model", max_length=255, unique=True, help_text="A model of MODELS_DIR or an id on the Hub."
    )
    aliases = ArrayField(
        models.CharField(max_length=255),
        default=list,
        blank=True,
        help_text="Other names that requests may use, separated by commas.",
    )
    revision = models.CharField(max_length=255, blank=True, help_text="Pinned commit (empty: latest).")
    allowed = models.BooleanField(default=True, help_text="Requests may name this model.")
    is_default = models.BooleanField(
        "default",
        default=False,
        db_default=False,
        help_text="Model of requests that name none. If no row is the default, DEFAULT_MODEL_ID is.",
    )
    license_note = models.TextField(blank=True, help_text="For operators; shown in the API as `license`.")

    steps = models.PositiveSmallIntegerField(null=True, blank=True)
    guidance_scale = models.FloatField(null=True, blank=True)
    width = models.PositiveSmallIntegerField(null=True, blank=True, help_text="In pixels; set the height, too.")
    height = models.PositiveSmallIntegerField(null=True, blank=True)
    scheduler = models.CharField(max_length=32, blank=True)
    negative_prompt = models.TextField(blank=True)

    dtype = models.CharField(max_length=16, choices=Dtype, blank=True, help_text="Empty: INFERENCE_DTYPE.")
    offload = models.CharField(max_length=16, choices=Offload, default=Offload.NONE)
    compile_blocks = models.BooleanField(
        "compile",
        default=False,
        help_text="Compile the repeated blocks. The first image of each size waits for this, up to minutes: keep "
        "it below STEP_TIMEOUT_SECONDS. Needs a C++ compiler on the worker. Changes images by rounding "
        "only.",
    )
    channels_last = models.BooleanField(
        default=False,
        help_text="Memory layout that is faster for convolutions on tensor cores; for U-Nets. Changes images by "
        "rounding only.",
    )
    fuse_qkv = models.BooleanField(
        "fuse QKV",
        default=False,
        help_text="Compute query, key and value in one matrix product; keeps these weights twice. Changes images "
        "by rounding only.",
    )
    attention_backend = models.CharField(
        max_length=32,
        choices=AttentionBackend,
        blank=True,
        help_text="For diffusion transformers. flash, _flash_3, sage and xformers need their packages on the "
        "worker. sage is quantized, which changes images.",
    )
    step_cache = models.CharField(
        max_length=32,
        choices=StepCache,
        blank=True,
        help_text="For diffusion transformers: reuse results that change little between steps. Changes images, "
        "also depending on the other images of the batch.",
    )
    quantization = models.CharField(
        max_length=32,
        choices=Quantization,
        blank=True,
        help_text="Quantize the denoiser's weights: saves memory, and on some devices time. Changes images. Needs "
        "torchao on the worker; nf4 needs bitsandbytes and an accelerator.",
    )
    vae_slicing = models.BooleanField(
        "VAE slicing",
        default=False,
        help_text="Decode the images of a batch one by one: saves memory, takes longer. Changes no image.",
    )
    vae_tiling = models.BooleanField(
        "VAE tiling",
        default=False,
        help_text="Decode large images in overlapping tiles: saves much memory, takes longer. Slightly changes "
        "images larger than a tile.",
    )
    prompt_weighting = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Read (words:1.3), (words) and [words] as weights, and use prompts beyond 77 tokens. For Stable "
        "Diffusion 1, 2, XL and latent consistency models. Changes the images of such prompts only.",
    )
    max_batch = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Most images of one pipeline call, from one request or several. Empty: the server's limits.",
    )
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("model_id",)
        verbose_name = "model"
        constraints = (
            models.UniqueConstraint(
                fields=["is_default"],
                condition=Q(is_default=True),
                name="model_default_unique",
                violation_error_message="Another model is the default.",
            ),
        )

    def __str__(self) -> str:
        return self.model_id
