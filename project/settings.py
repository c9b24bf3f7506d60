"""Django's settings, built from the variables in `env.py`, which only this module reads.

Without DATABASE_URL and REDIS_URL the embedded servers are used, which `manage.py quickstart` or `manage.py services`
start.
"""

import secrets
import tomllib
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from project import log_config, sentry
from project.embedded import servers as embedded_servers
from project.env import BASE_DIR, RENAMED, read_env, split_commas
from project.sidebar import UNFOLD as UNFOLD


def _read_secret_key() -> str:
    """Return the configured secret key, or a generated one that is kept with the embedded servers' data."""
    if env.SECRET_KEY:
        return env.SECRET_KEY
    if env.DATABASE_URL:
        raise ImproperlyConfigured("SECRET_KEY: must be set when DATABASE_URL is.")
    path = env.VAR_DIR / "secret_key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret_key.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        draft.replace(path)
    return path.read_text()


env = read_env()
VAR_DIR = env.VAR_DIR
_attached = None if env.DATABASE_URL and env.REDIS_URL else embedded_servers.find_running_services(VAR_DIR)
# If no server is configured or running, these addresses lead nowhere and the first query fails.
DATABASE_URL = env.DATABASE_URL or (_attached and _attached.database_url) or "postgresql://postgres@%2Fnonexistent/none"
REDIS_URL = env.REDIS_URL or (_attached and _attached.redis_url) or "unix:///nonexistent/redis.sock"
EMBED_POSTGRES = not env.DATABASE_URL
EMBED_REDIS = not env.REDIS_URL

RENAMED_SETTINGS = RENAMED
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]

# --- Django ----------------------------------------------------------------------------------------------------------
SECRET_KEY = _read_secret_key()
DEBUG = env.DEBUG
ALLOWED_HOSTS = split_commas(env.ALLOWED_HOSTS)
CSRF_TRUSTED_ORIGINS = split_commas(env.CSRF_TRUSTED_ORIGINS)
# With HTTPS, plain HTTP requests are redirected and cookies are secure. Probes of load balancers and Prometheus may use
# plain HTTP.
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.BEHIND_HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if env.BEHIND_HTTPS else 0
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
# HSTS for subdomains and preload lists is the decision of the domain's owner, made at the proxy.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
WSGI_APPLICATION = "project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "tasks_app",
    "django_dramatiq",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tasks_app.api.http.exceptions.DatabaseUnavailableMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tasks_app.admin.banner.queue_pause_banner",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# Under ASGI every request has a thread of its own, so connections are pooled rather than kept per thread. Without a
# server no pool is created, because it would retry forever. After an outage the pool reconnects within seconds.
_pool = {"min_size": 1, "max_size": 16, "timeout": 2, "reconnect_timeout": 3}
_database = dj_database_url.parse(DATABASE_URL, conn_health_checks=True)
_asked: dict[str, Any] = _database.get("OPTIONS", {})
# A process that is frozen in a transaction would keep its locks, including the sweepers' lock, until it resumes.
_bounded = "-c idle_in_transaction_session_timeout=3000"
_database["OPTIONS"] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,
    **_asked,
    "options": f"{_bounded} {_asked.get('options', '')}".strip(),
    "pool": _pool if env.DATABASE_URL or _attached else False,
}
DATABASES = {"default": _database}

STATIC_URL = "static/"
# If unset, static files are served from the apps' folders; if set, `collectstatic` fills it for production.
STATIC_ROOT = env.STATIC_ROOT
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
MEDIA_ROOT = env.MEDIA_ROOT or VAR_DIR / "media"
# The proxy can only send files from a disk that it can read.
X_ACCEL_LOCATION = "" if env.S3_BUCKET else env.X_ACCEL_LOCATION
S3_PRESIGNED = bool(env.S3_BUCKET) and env.S3_PRESIGNED
S3_PRESIGNED_SECONDS = env.S3_PRESIGNED_SECONDS
_s3 = {
    "bucket_name": env.S3_BUCKET,
    "endpoint_url": env.S3_ENDPOINT_URL,
    "region_name": env.S3_REGION,
    "location": env.S3_PREFIX,
    "querystring_expire": S3_PRESIGNED_SECONDS,
    # Without these boto3 looks for a role or a profile by itself.
    "access_key": env.AWS_ACCESS_KEY_ID,
    "secret_key": env.AWS_SECRET_ACCESS_KEY,
    "security_token": env.AWS_SESSION_TOKEN,
}
_local = {"BACKEND": "tasks_app.images.storage.DurableStorage"}
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "tasks_app.images.s3.BucketStorage", "OPTIONS": _s3} if env.S3_BUCKET else _local,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- The API ---------------------------------------------------------------------------------------------------------
# No forms: JSON in, JSON out.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tasks_app.api.http.authentication.KeyAuthentication",
        "tasks_app.api.http.authentication.SignedUrlAuthentication",
        "tasks_app.api.http.authentication.StaffAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["tasks_app.api.http.authentication.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["tasks_app.api.http.throttles.KeyThrottle"],
    "DEFAULT_PARSER_CLASSES": ["tasks_app.api.http.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "tasks_app.api.openapi.generator.ServiceSchema",
    "EXCEPTION_HANDLER": "tasks_app.api.http.exceptions.handle_api_error",
    "UNAUTHENTICATED_USER": None,
    # An error that concerns a whole object is reported under the object's own path.
    "NON_FIELD_ERRORS_KEY": "",
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Diffusers Handler",
    "VERSION": VERSION,
    "DESCRIPTION": "Text to image: queue a task, follow it, fetch its images. Paths may end in a slash. "
    "Other methods result in 405 with `Allow`.",
    "LICENSE": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "TAGS": [
        {"name": "tasks", "description": "Requests for images, from submission to end."},
        {"name": "events", "description": "Live events of tasks."},
        {"name": "images", "description": "Images of tasks, and uploads."},
        {"name": "models", "description": "Models, LoRAs and embeddings."},
        {"name": "OpenAI", "description": "Compatibility API for OpenAI's clients."},
        {"name": "A1111", "description": "Compatibility API for clients of A1111's web UI."},
        {"name": "service", "description": "The service itself."},
    ],
    "PREPROCESSING_HOOKS": ["tasks_app.api.openapi.components.strip_trailing_slashes"],
    "POSTPROCESSING_HOOKS": ["tasks_app.api.openapi.components.complete_schema"],
}
KNOX_TOKEN_MODEL = "tasks_app.ApiKey"  # noqa: S105 - a model's name
# Knox's own migrations would create a table for the model that KNOX_TOKEN_MODEL replaces.
MIGRATION_MODULES = {"knox": None}
REST_KNOX = {"TOKEN_MODEL": KNOX_TOKEN_MODEL, "TOKEN_PREFIX": "dh_", "TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Bearer"}
API_AUTH = env.API_AUTH
DIFFUSERS_HANDLER_URL = env.DIFFUSERS_HANDLER_URL
DIFFUSERS_HANDLER_KEY = env.DIFFUSERS_HANDLER_KEY
RATE_LIMIT_PER_MINUTE = env.RATE_LIMIT_PER_MINUTE
MAX_QUEUED_PER_KEY = env.MAX_QUEUED_PER_KEY
MAX_RUNNING_PER_KEY = env.MAX_RUNNING_PER_KEY
MAX_WAIT_SECONDS = env.MAX_WAIT_SECONDS
COMPAT_TIMEOUT_SECONDS = env.COMPAT_TIMEOUT_SECONDS
SIGNED_URL_SECONDS = env.SIGNED_URL_SECONDS
IDEMPOTENCY_TTL_HOURS = env.IDEMPOTENCY_TTL_HOURS
MAX_BODY_BYTES = env.MAX_BODY_BYTES
MAX_UPLOAD_BYTES = env.MAX_UPLOAD_BYTES
MAX_PIXELS = env.MAX_PIXELS
MAX_IMAGES = env.MAX_IMAGES

# --- Models and the engine that runs them ----------------------------------------------------------------------------
DEFAULT_MODEL_ID = env.DEFAULT_MODEL_ID
MODELS_DIR = env.MODELS_DIR
LORAS_DIR = env.LORAS_DIR or MODELS_DIR / "loras"
EMBEDDINGS_DIR = env.EMBEDDINGS_DIR or MODELS_DIR / "embeddings"
ALLOWED_MODELS = split_commas(env.ALLOWED_MODELS)
# Public name -> current location. The owner of the first one removed it from the Hub.
MODEL_ALIASES = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
PROVIDERS: dict[str, dict[str, Any]] = {
    "diffusers": {
        "models_dir": MODELS_DIR,
        "loras_dir": LORAS_DIR,
        "embeddings_dir": EMBEDDINGS_DIR,
        "hub_cache": env.HF_HOME / "hub",
        "offline": env.HF_HUB_OFFLINE,
        "hub_endpoint": env.HF_ENDPOINT,
        "max_models_bytes": env.MODELS_MAX_BYTES,
        "device": env.INFERENCE_DEVICE,
        "dtype": env.INFERENCE_DTYPE,
        "max_cached_models": env.MAX_CACHED_MODELS,
        "max_cached_bytes": env.MAX_CACHED_BYTES,
        "safety_checker": env.SAFETY_CHECKER,
        "preview_every": env.PREVIEW_EVERY_STEPS,
        "preview_seconds": env.PREVIEW_INTERVAL_MS / 1000,
        "prompt_cache_bytes": env.PROMPT_CACHE_BYTES,
        "cpu_threads": env.CPU_THREADS,
    }
}

# --- Workers, logs and metrics ---------------------------------------------------------------------------------------
WORKER_NAME = env.WORKER_NAME
MAX_BATCH = env.MAX_BATCH
BATCH_WAIT_MS = env.BATCH_WAIT_MS
WARM_MODELS = split_commas(env.WARM_MODELS)
MODEL_AFFINITY_SECONDS = env.MODEL_AFFINITY_SECONDS
IDLE_UNLOAD_SECONDS = env.IDLE_UNLOAD_SECONDS
METRICS_TOKEN, SENTRY_DSN = env.METRICS_TOKEN, env.SENTRY_DSN
LOGGING = log_config.build_logging_config(as_json=not DEBUG if env.LOG_FORMAT == "auto" else env.LOG_FORMAT == "json")
if SENTRY_DSN:
    sentry.init_sentry(SENTRY_DSN, VERSION)

# --- Task lifecycle --------------------------------------------------------------------------------------------------
LEASE_SECONDS = env.LEASE_SECONDS
HEARTBEAT_SECONDS = env.HEARTBEAT_SECONDS
SWEEP_INTERVAL_SECONDS = env.SWEEP_INTERVAL_SECONDS
WAKE_UP_INTERVAL_SECONDS = env.WAKE_UP_INTERVAL_SECONDS
SHUTDOWN_GRACE_SECONDS = env.SHUTDOWN_GRACE_SECONDS
STEP_TIMEOUT_SECONDS = env.STEP_TIMEOUT_SECONDS
MAX_LOST_WORKERS = env.MAX_LOST_WORKERS
TASK_DEADLINE_SECONDS = env.TASK_DEADLINE_SECONDS
PROGRESS_TTL_SECONDS = env.PROGRESS_TTL_SECONDS
STREAM_HEARTBEAT_SECONDS = env.STREAM_HEARTBEAT_SECONDS
# Per status: the maximum age in days and the number of newest tasks to keep; None keeps all.
RETENTION = {
    "succeeded": {"age_days": env.RETENTION_SUCCEEDED_AGE_DAYS, "count": env.RETENTION_SUCCEEDED_COUNT},
    "failed": {"age_days": env.RETENTION_FAILED_AGE_DAYS, "count": env.RETENTION_FAILED_COUNT},
    "canceled": {"age_days": env.RETENTION_CANCELED_AGE_DAYS, "count": env.RETENTION_CANCELED_COUNT},
}
UPLOAD_TTL_HOURS = env.UPLOAD_TTL_HOURS
RETENTION_INTERVAL_SECONDS = env.RETENTION_INTERVAL_SECONDS

# --- Webhooks --------------------------------------------------------------------------------------------------------
PUBLIC_URL = env.PUBLIC_URL
WEBHOOK_SECRET = env.WEBHOOK_SECRET
WEBHOOK_ALLOW_HTTP = env.WEBHOOK_ALLOW_HTTP or DEBUG
WEBHOOK_PRIVATE_NETWORKS = env.WEBHOOK_PRIVATE_NETWORKS

# --- Dramatiq: messages wake workers, rows hold the state ------------------------------------------------------------
DRAMATIQ_AUTODISCOVER_MODULES = ["actors"]
DRAMATIQ_NAMESPACE = "dramatiq"
# Without these a frozen Redis would block a POST for minutes.
REDIS_TIMEOUT_SECONDS = 1.0
_timeouts = f"socket_timeout={REDIS_TIMEOUT_SECONDS}&socket_connect_timeout={REDIS_TIMEOUT_SECONDS}"
DRAMATIQ_BROKER = {
    "BROKER": "project.broker.BlockingRedisBroker",
    "OPTIONS": {
        "url": f"{REDIS_URL}{'&' if '?' in REDIS_URL else '?'}{_timeouts}",
        "namespace": DRAMATIQ_NAMESPACE,
        "maintenance_chance": 1_000_000,
        "heartbeat_timeout": 10_000,
    },
    # No retries or time limits: the row counts the attempts, and the inference thread can't be interrupted.
    "MIDDLEWARE": [
        "django_dramatiq.middleware.DbConnectionsMiddleware",
        "tasks_app.worker.middleware.WorkerMiddleware",
    ],
}
