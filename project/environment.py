"""The variables that people set, in the environment or in `.env`; `.env.example` lists each with its default."""

from pathlib import Path
from typing import Annotated, Any, Literal

from django.core.exceptions import ImproperlyConfigured
from pydantic import BeforeValidator, Field, IPvAnyNetwork, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
# As standardwebhooks.com has it: 24 to 64 bytes in base64.
SIGNING_KEY_PATTERN = r"^whsec_([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def split_commas(text: str) -> list[str]:
    """Return what stands between the commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _split_if_text(value: Any) -> Any:
    return split_commas(value) if isinstance(value, str) else value


class Environment(BaseSettings):
    """The variables that people set."""

    model_config = SettingsConfigDict(env_file=BASE_DIR / ".env", extra="ignore", env_ignore_empty=True)

    DATABASE_URL: str | None = None
    REDIS_URL: str | None = None
    VAR_DIR: Path = BASE_DIR / "var"

    SECRET_KEY: str | None = None
    DEBUG: bool = False
    ALLOWED_HOSTS: Annotated[str, NoDecode] = "127.0.0.1,localhost,[::1]"
    CSRF_TRUSTED_ORIGINS: Annotated[str, NoDecode] = ""
    HTTPS: bool = False

    DEFAULT_MODEL_ID: str = "runwayml/stable-diffusion-v1-5"
    ALLOWED_MODELS: str = ""
    MODELS_DIR: Path = BASE_DIR / "models"
    LORAS_DIR: Path | None = None
    EMBEDDINGS_DIR: Path | None = None
    MODELS_MAX_BYTES: int | None = Field(default=None, ge=1)
    HF_HOME: Path = Path.home() / ".cache" / "huggingface"
    HF_HUB_OFFLINE: bool = False
    HF_ENDPOINT: str | None = None
    MEDIA_ROOT: Path | None = None
    X_ACCEL_LOCATION: str = ""
    STATIC_ROOT: Path | None = None

    S3_BUCKET: str | None = None
    S3_ENDPOINT_URL: str | None = None
    S3_REGION: str | None = None
    S3_PREFIX: str = ""
    S3_PRESIGNED: bool = False
    S3_PRESIGNED_SECONDS: int = Field(default=300, ge=10, le=7 * 24 * 3600)
    AWS_ACCESS_KEY_ID: str | None = None
    AWS_SECRET_ACCESS_KEY: str | None = None
    AWS_SESSION_TOKEN: str | None = None

    DEVICE: str = "auto"
    DTYPE: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    MAX_CACHED_MODELS: int = Field(default=1, ge=1)
    MAX_CACHED_BYTES: int | None = Field(default=None, ge=1)
    IDLE_UNLOAD_SECONDS: float | None = Field(default=None, gt=0)
    WARM_MODELS: str = ""
    WARM_PREFERENCE_SECONDS: float = Field(default=10, ge=0)
    MAX_BATCH: int = Field(default=4, ge=1)
    BATCH_WAIT_MS: int = Field(default=0, ge=0, le=1000)
    SAFETY_CHECKER: bool = True
    PREVIEW_EVERY_STEPS: int = Field(default=2, ge=0)
    PREVIEW_INTERVAL_MS: int = Field(default=250, ge=0)
    PROMPT_CACHE_BYTES: int = Field(default=64 * 1024 * 1024, ge=0)
    CPU_THREADS: int | None = Field(default=None, ge=1)
    WORKER_NAME: str | None = None

    API_AUTH: Literal["required", "optional"] = "required"
    API_KEY: str | None = None
    RATE_PER_MINUTE: int | None = Field(default=600, ge=1)
    MAX_QUEUED_PER_KEY: int | None = Field(default=1000, ge=1)
    MAX_RUNNING_PER_KEY: int | None = Field(default=None, ge=1)
    MAX_WAIT_SECONDS: float = Field(default=60, ge=0)
    FACADE_WAIT_SECONDS: float = Field(default=300, ge=0)
    SIGNED_URL_SECONDS: int = Field(default=3600, gt=0)
    IDEMPOTENCY_HOURS: float = Field(default=24, gt=0)

    MAX_PIXELS: int = Field(default=2048 * 2048, ge=32 * 32)
    MAX_IMAGES: int = Field(default=8, ge=1)
    MAX_BODY_BYTES: int = Field(default=256 * 1024, ge=1024)
    MAX_UPLOAD_BYTES: int = Field(default=16 * 1024 * 1024, ge=1024)

    LEASE_SECONDS: float = Field(default=30, gt=0)
    HEARTBEAT_SECONDS: float = Field(default=1, gt=0)
    SWEEP_SECONDS: float = Field(default=2, gt=0)
    WAKE_SECONDS: float = Field(default=5, gt=0)
    DRAIN_SECONDS: float = Field(default=30, ge=0)
    HANG_SECONDS: float = Field(default=300, gt=0)
    MAX_ATTEMPTS: int = Field(default=3, ge=1)
    TASK_DEADLINE_SECONDS: float | None = Field(default=None, gt=0)
    PROGRESS_TTL_SECONDS: int = Field(default=24 * 3600, gt=0)
    STREAM_HEARTBEAT_SECONDS: float = Field(default=15, gt=0)
    METRICS_TOKEN: str | None = None
    LOG_FORMAT: Literal["auto", "json", "console"] = "auto"
    SENTRY_DSN: str | None = None

    RETENTION_SUCCEEDED_AGE_DAYS: float | None = Field(default=None, ge=0)
    RETENTION_SUCCEEDED_COUNT: int | None = Field(default=None, ge=0)
    RETENTION_FAILED_AGE_DAYS: float | None = Field(default=None, ge=0)
    RETENTION_FAILED_COUNT: int | None = Field(default=None, ge=0)
    RETENTION_CANCELED_AGE_DAYS: float | None = Field(default=None, ge=0)
    RETENTION_CANCELED_COUNT: int | None = Field(default=None, ge=0)
    UPLOAD_HOURS: float = Field(default=24, gt=0)
    RETENTION_SECONDS: float = Field(default=60, gt=0)

    PUBLIC_URL: str = Field(default="", pattern=r"^(https?://.*[^/])?$")
    WEBHOOK_SECRET: str | None = Field(default=None, pattern=SIGNING_KEY_PATTERN)
    WEBHOOK_ALLOW_HTTP: bool = False
    WEBHOOK_PRIVATE_NETWORKS: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_split_if_text)] = ()


def read_environment() -> Environment:
    """Return the variables.

    Raises:
        ImproperlyConfigured: some have wrong values; all of them are named.
    """
    try:
        return Environment()
    except ValidationError as error:
        lines = [f"  {detail['loc'][0]}: {detail['msg']}" for detail in error.errors()]
        raise ImproperlyConfigured("\n".join(["The environment has wrong values:", *lines])) from None
