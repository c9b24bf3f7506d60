"""The service's settings, with an additional provider that tests control."""

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS, PROVIDERS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.support.fake"]
PROVIDERS = {**PROVIDERS, "fake": {}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
