"""The settings that you can set, in the environment or in `.env`: names, types, bounds, defaults and descriptions.

`.env.example` and `docs/reference/settings.md` are generated from here: `uv run python -m tools.settings_reference`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from django.core.exceptions import ImproperlyConfigured
from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, IPvAnyNetwork, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
# As standardwebhooks.com has it: 24 to 64 bytes in base64.
SIGNING_KEY_PATTERN = r"^whsec_([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
# Settings of version 0.1 by their names since.
RENAMED = {
    "API_KEY": "DIFFUSERS_HANDLER_KEY",
    "DEVICE": "INFERENCE_DEVICE",
    "DRAIN_SECONDS": "SHUTDOWN_GRACE_SECONDS",
    "DTYPE": "INFERENCE_DTYPE",
    "FACADE_WAIT_SECONDS": "COMPAT_TIMEOUT_SECONDS",
    "HANG_SECONDS": "STEP_TIMEOUT_SECONDS",
    "HTTPS": "BEHIND_HTTPS",
    "IDEMPOTENCY_HOURS": "IDEMPOTENCY_TTL_HOURS",
    "MAX_ATTEMPTS": "MAX_LOST_WORKERS",
    "RATE_PER_MINUTE": "RATE_LIMIT_PER_MINUTE",
    "RETENTION_SECONDS": "RETENTION_INTERVAL_SECONDS",
    "SWEEP_SECONDS": "SWEEP_INTERVAL_SECONDS",
    "UPLOAD_HOURS": "UPLOAD_TTL_HOURS",
    "WAKE_SECONDS": "WAKE_UP_INTERVAL_SECONDS",
    "WARM_PREFERENCE_SECONDS": "MODEL_AFFINITY_SECONDS",
}


def split_commas(text: str) -> list[str]:
    """Return the parts of a comma-separated text, without the spaces around them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _split_if_text(value: Any) -> Any:
    return split_commas(value) if isinstance(value, str) else value


class ServerSettings(BaseSettings):
    """Servers and data. Without URLs the embedded servers are used, which `quickstart` or `services` starts."""

    DATABASE_URL: str | None = Field(
        default=None, description="PostgreSQL, as `postgresql://user:password@host:5432/name`."
    )
    REDIS_URL: str | None = Field(default=None, description="Redis or Valkey, as `redis://host:6379/0`.")
    VAR_DIR: Path = Field(
        default=BASE_DIR / "var",
        description="Data of the embedded servers, images, logs of `quickstart`. Default: `var/`.",
    )


class DjangoSettings(BaseSettings):
    """Django."""

    SECRET_KEY: str | None = Field(
        default=None, description="Required with DATABASE_URL. Otherwise a random one is kept in VAR_DIR."
    )
    DEBUG: bool = Field(default=False, description="Django's debug mode. Never in production.")
    ALLOWED_HOSTS: Annotated[str, NoDecode] = Field(
        default="127.0.0.1,localhost,[::1]",
        description="Host names of this server, comma-separated.",
    )
    CSRF_TRUSTED_ORIGINS: Annotated[str, NoDecode] = Field(
        default="", description="Origins that may post to the admin, as `https://images.example.org`, comma-separated."
    )
    BEHIND_HTTPS: bool = Field(
        default=False, description="True behind a proxy that terminates HTTPS: redirects, secure cookies, HSTS."
    )
    STATIC_ROOT: Path | None = Field(
        default=None, description="Target of `manage.py collectstatic` in production. Unset: served from the packages."
    )


class StorageSettings(BaseSettings):
    """Image files on disk."""

    MEDIA_ROOT: Path | None = Field(
        default=None, description="Folder of the images, shared by web and workers. Default: VAR_DIR/media."
    )
    X_ACCEL_LOCATION: str = Field(
        default="", description="Internal nginx location of MEDIA_ROOT, as `/_pictures/`: nginx then sends the images."
    )


class BucketSettings(BaseSettings):
    """Images in an S3 bucket instead of MEDIA_ROOT. Needs `uv sync --extra s3`."""

    S3_BUCKET: str | None = Field(default=None, description="Name of the bucket. Unset: images are kept in MEDIA_ROOT.")
    S3_ENDPOINT_URL: str | None = Field(
        default=None, description="Any server that speaks S3, with the bucket in the path. Unset: Amazon's own."
    )
    S3_REGION: str | None = Field(default=None, description="Region of the bucket.")
    S3_PREFIX: str = Field(default="", description="A folder in the bucket.")
    S3_PRESIGNED: bool = Field(
        default=False,
        description="True: clients are redirected to a signed URL of the bucket. False: the web passes the bytes on.",
    )
    S3_PRESIGNED_SECONDS: int = Field(default=300, ge=10, le=7 * 24 * 3600, description="Lifetime of those URLs.")
    AWS_ACCESS_KEY_ID: str | None = Field(default=None, description="Unset: boto3 looks for a role or a profile.")
    AWS_SECRET_ACCESS_KEY: str | None = Field(default=None, description="Secret of that key.")
    AWS_SESSION_TOKEN: str | None = Field(default=None, description="Session token, for temporary credentials.")


class ModelSettings(BaseSettings):
    """Models."""

    DEFAULT_MODEL_ID: str = Field(
        default="runwayml/stable-diffusion-v1-5",
        description="Model of requests that name none, until the admin sets another.",
    )
    ALLOWED_MODELS: str = Field(
        default="",
        description="Hub ids (`org/name`, pinned as `org/name@commit`) and patterns (`org/*`), comma-separated, "
        "allowed besides the default and local models. `*` lets every client have any model downloaded: dangerous.",
    )
    MODELS_DIR: Path = Field(
        default=BASE_DIR / "models",
        description="Local models: pipeline folders, and weights files with a sidecar. Default: `models/`.",
    )
    LORAS_DIR: Path | None = Field(default=None, description="LoRAs, as `name.safetensors`. Default: MODELS_DIR/loras.")
    EMBEDDINGS_DIR: Path | None = Field(
        default=None, description="Textual-inversion embeddings, as `name.safetensors`. Default: MODELS_DIR/embeddings."
    )
    MODELS_MAX_BYTES: int | None = Field(
        default=None, ge=1, description="Size limit of the Hub cache: larger downloads are refused. Unset: no limit."
    )
    HF_HOME: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "huggingface",
        description="Hugging Face's folder; the Hub cache is HF_HOME/hub. Default: `~/.cache/huggingface`.",
    )
    HF_HUB_OFFLINE: bool = Field(default=False, description="Never ask the Hub.")
    HF_ENDPOINT: str | None = Field(default=None, description="A mirror of the Hub.")


class EngineSettings(BaseSettings):
    """The engine in the worker."""

    INFERENCE_DEVICE: str = Field(
        default="auto", description="`auto` (CUDA, MPS, CPU), `cuda`, `cuda:1`, `mps` or `cpu`."
    )
    INFERENCE_DTYPE: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="`auto`: float16 or bfloat16 on CUDA, else float32."
    )
    MAX_CACHED_MODELS: int = Field(default=1, ge=1, description="Number of pipelines that stay loaded in a worker.")
    MAX_CACHED_BYTES: int | None = Field(
        default=None,
        ge=1,
        description="Size limit of their weights together; the one in use always stays. Unset: no limit.",
    )
    IDLE_UNLOAD_SECONDS: float | None = Field(
        default=None, gt=0, description="A model that is unused this long is unloaded. Unset: never."
    )
    WARM_MODELS: str = Field(
        default="", description="Models to load when a worker starts, comma-separated, the last one last."
    )
    MODEL_AFFINITY_SECONDS: float = Field(
        default=10,
        ge=0,
        description="Longest time that a worker prefers a loaded model over the queue's order. 0: never.",
    )
    MAX_BATCH: int = Field(
        default=4,
        ge=1,
        description="Most images of one call, if queued tasks differ in prompt and seed only. 1: no batches.",
    )
    BATCH_WAIT_MS: int = Field(
        default=0, ge=0, le=1000, description="Time that a worker waits for more tasks before a call that is not full."
    )
    SAFETY_CHECKER: bool = Field(default=True, description="Keep the safety checker of models that bring one.")
    PREVIEW_EVERY_STEPS: int = Field(
        default=2,
        ge=0,
        description="Publish a preview every N steps, as far as that takes at most 2 % of the run. 0: never.",
    )
    PREVIEW_INTERVAL_MS: int = Field(default=250, ge=0, description="Shortest time between two previews. 0: none.")
    PROMPT_CACHE_BYTES: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Size limit of the prompt embeddings kept with each loaded model. 0: none.",
    )
    CPU_THREADS: int | None = Field(
        default=None,
        ge=1,
        description="Threads of torch. Unset: torch counts the cores, also those a container may not use.",
    )
    WORKER_NAME: str | None = Field(
        default=None, description="Unique name of the worker; a pause stays with the name. Unset: `host:pid`."
    )


class AccessSettings(BaseSettings):
    """Access to the API, and its limits for each key."""

    API_AUTH: Literal["required", "optional"] = Field(
        default="required",
        description="`required`: every request needs a key (`manage.py apikey create`) or a signed-in user. "
        "`optional`: anyone who can reach the server can use it, as with `quickstart`.",
    )
    RATE_LIMIT_PER_MINUTE: int | None = Field(default=600, ge=1, description="Requests of a key per minute.")
    MAX_QUEUED_PER_KEY: int | None = Field(default=1000, ge=1, description="Queued tasks of a key.")
    MAX_RUNNING_PER_KEY: int | None = Field(default=None, ge=1, description="Running tasks of a key. Unset: no limit.")
    MAX_WAIT_SECONDS: float = Field(default=60, ge=0, description="Longest wait of a POST with `Prefer: wait=N`.")
    COMPAT_TIMEOUT_SECONDS: float = Field(
        default=300,
        ge=0,
        description="Longest wait of clients of OpenAI's and A1111's APIs; the task continues after it.",
    )
    SIGNED_URL_SECONDS: int = Field(default=3600, gt=0, description="Lifetime of signed URLs of images and streams.")
    IDEMPOTENCY_TTL_HOURS: float = Field(
        default=24, gt=0, description="Time after which an Idempotency-Key can be reused."
    )


class CommandLineSettings(BaseSettings):
    """The command line as a client of a server."""

    DIFFUSERS_HANDLER_URL: str = Field(
        default="http://127.0.0.1:8000", description="Server that `manage.py generate` sends tasks to."
    )
    DIFFUSERS_HANDLER_KEY: str | None = Field(default=None, description="API key that it sends.")


class RequestSettings(BaseSettings):
    """Limits of one request."""

    MAX_PIXELS: int = Field(default=2048 * 2048, ge=32 * 32, description="Largest image, in pixels.")
    MAX_IMAGES: int = Field(default=8, ge=1, description="Most images of a task.")
    MAX_BODY_BYTES: int = Field(default=256 * 1024, ge=1024, description="Largest JSON body.")
    MAX_UPLOAD_BYTES: int = Field(default=16 * 1024 * 1024, ge=1024, description="Largest image file in a request.")


class TaskSettings(BaseSettings):
    """Leases, retries and deadlines of tasks."""

    LEASE_SECONDS: float = Field(default=30, gt=0, description="A worker that is silent this long loses its tasks.")
    HEARTBEAT_SECONDS: float = Field(
        default=1,
        gt=0,
        description="Interval of the UPDATE that saves progress, renews the lease and notices a cancel.",
    )
    SWEEP_INTERVAL_SECONDS: float = Field(
        default=2, gt=0, description="Interval of the sweeper, which requeues lost tasks."
    )
    WAKE_UP_INTERVAL_SECONDS: float = Field(
        default=5, gt=0, description="A task that no worker has claimed this long is sent again."
    )
    SHUTDOWN_GRACE_SECONDS: float = Field(
        default=30,
        ge=0,
        description="Time to finish that a running task gets at SIGTERM, before the worker releases it.",
    )
    STEP_TIMEOUT_SECONDS: float = Field(
        default=300,
        gt=0,
        description="A worker whose task takes no step this long exits. Loading from disk does not count.",
    )
    MAX_LOST_WORKERS: int = Field(
        default=3, ge=1, description="A task fails when this many workers were lost while it ran."
    )
    TASK_DEADLINE_SECONDS: float | None = Field(
        default=None, gt=0, description="Time from the POST after which a task fails. Unset: never."
    )
    PROGRESS_TTL_SECONDS: int = Field(default=24 * 3600, gt=0, description="Time that live progress is kept in Redis.")
    STREAM_HEARTBEAT_SECONDS: float = Field(
        default=15, gt=0, description="Interval of the comments that keep proxies from closing a silent event stream."
    )


class RetentionSettings(BaseSettings):
    """Retention of finished tasks, by age and by number of the newest. Unset: everything is kept."""

    RETENTION_SUCCEEDED_AGE_DAYS: float | None = Field(
        default=None, ge=0, description="The images of older tasks are purged; the tasks stay."
    )
    RETENTION_SUCCEEDED_COUNT: int | None = Field(
        default=None, ge=0, description="Number of tasks that keep their images."
    )
    RETENTION_FAILED_AGE_DAYS: float | None = Field(default=None, ge=0, description="Older failed tasks are deleted.")
    RETENTION_FAILED_COUNT: int | None = Field(default=None, ge=0, description="Number of failed tasks that are kept.")
    RETENTION_CANCELED_AGE_DAYS: float | None = Field(
        default=None, ge=0, description="Older canceled tasks are deleted."
    )
    RETENTION_CANCELED_COUNT: int | None = Field(
        default=None, ge=0, description="Number of canceled tasks that are kept."
    )
    UPLOAD_TTL_HOURS: float = Field(
        default=24,
        gt=0,
        description="Time until an upload is deleted that no task uses; others go with their task's images.",
    )
    RETENTION_INTERVAL_SECONDS: float = Field(
        default=60, gt=0, description="Interval between two runs of the retention."
    )


class WebhookSettings(BaseSettings):
    """Webhooks."""

    PUBLIC_URL: str = Field(
        default="",
        pattern=r"^(https?://.*[^/])?$",
        description="Public address of the API, as `https://images.example.org`, for links in webhooks. Unset: paths.",
    )
    WEBHOOK_SECRET: str | None = Field(
        default=None,
        pattern=SIGNING_KEY_PATTERN,
        description="Signs webhooks of tasks without a key: `whsec_` and 24 to 64 random bytes in base64. "
        "Unset: only tasks of a key can have webhooks.",
    )
    WEBHOOK_ALLOW_HTTP: bool = Field(default=False, description="Allow plain http:// receivers, as DEBUG does.")
    WEBHOOK_PRIVATE_NETWORKS: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_split_if_text)] = Field(
        default=(), description="Networks of receivers beside public addresses, as `10.0.0.0/8`, comma-separated."
    )


class MonitoringSettings(BaseSettings):
    """Monitoring."""

    METRICS_TOKEN: str | None = Field(
        default=None,
        description="Bearer token of Prometheus for /metrics. Unset: anyone who can reach the server can read it.",
    )
    LOG_FORMAT: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="`json`: one object per line. `console`: for people. `auto`: console with DEBUG, else json.",
    )
    SENTRY_DSN: str | None = Field(default=None, description="Report errors to Sentry. Needs `uv sync --extra sentry`.")


class Env(
    ServerSettings,
    DjangoSettings,
    StorageSettings,
    BucketSettings,
    ModelSettings,
    EngineSettings,
    AccessSettings,
    CommandLineSettings,
    RequestSettings,
    TaskSettings,
    RetentionSettings,
    WebhookSettings,
    MonitoringSettings,
):
    """All settings."""

    model_config = SettingsConfigDict(env_file=BASE_DIR / ".env", extra="ignore", env_ignore_empty=True)


def read_env() -> Env:
    """Return the settings.

    Raises:
        ImproperlyConfigured: some have wrong values or, in `.env`, names of version 0.1; all of them are listed.
    """
    path = BASE_DIR / ".env"
    old = RENAMED.keys() & dotenv_values(path).keys() if path.exists() else set()
    if old:
        lines = [f"  {name} is now {RENAMED[name]}" for name in sorted(old)]
        raise ImproperlyConfigured("\n".join(["Some settings in .env were renamed:", *lines]))
    try:
        return Env()
    except ValidationError as error:
        lines = [f"  {detail['loc'][0]}: {detail['msg']}" for detail in error.errors()]
        raise ImproperlyConfigured("\n".join(["Some settings have invalid values:", *lines])) from None
