"""The service's settings with the middleware of a bare project: one view, Django's usual middleware."""

from project.settings import *  # noqa: F403 - all of them

ROOT_URLCONF = "tools.benchmarks.harness.servers.plain"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
