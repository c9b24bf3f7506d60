"""`manage.py apikey create|list|revoke`: management of API keys from a terminal."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.errors import WebhookUrlRefusedError
from tasks_app.models import ApiKey, Scope
from tasks_app.webhooks import payload, url_policy


class Command(BaseCommand):
    """Create, list and revoke API keys."""

    help = "Creates, lists and revokes API keys."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the three subcommands."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="create a key and print it, only this once")
        create.add_argument("name", help="what it is for")
        create.add_argument("--owner", required=True, help="owner's user name")
        scopes = f"can be repeated (default: {', '.join(api_keys.DEFAULT_SCOPES)})"
        create.add_argument("--scope", action="append", choices=Scope.values, help=scopes)
        create.add_argument("--days", type=int, help="days until it expires (default: never)")
        create.add_argument("--max-queued", type=int, help="maximum number of its queued tasks")
        create.add_argument("--max-running", type=int, help="maximum number of its running tasks")
        create.add_argument("--rate", type=int, help="maximum number of its requests per minute")
        create.add_argument("--webhook", default="", help="URL to notify when one of its tasks has ended")
        verbs.add_parser("list", help="list keys (without their values)")
        revoke = verbs.add_parser("revoke", help="revoke a key now")
        revoke.add_argument("id", type=int, help="as `list` shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand."""
        verbs = {"create": self._create_key, "list": self._list_keys, "revoke": self._revoke_key}
        verbs[options["verb"]](options)

    def _create_key(self, options: dict[str, Any]) -> None:
        owner = User.objects.filter(username=options["owner"]).first()
        if owner is None:
            raise CommandError(f"--owner: there is no user {options['owner']}.")
        if ApiKey.objects.filter(user=owner, name=options["name"]).exists():
            raise CommandError(f"{owner} has a key of this name already.")
        days = options["days"]
        key, token = api_keys.create_api_key(
            user=owner,
            name=options["name"],
            scopes=[Scope(scope) for scope in options["scope"] or api_keys.DEFAULT_SCOPES],
            expires_in=None if days is None else timedelta(days=days),
            max_queued=options["max_queued"],
            max_running=options["max_running"],
            rate_per_minute=options["rate"],
            webhook_url=_check_webhook_url(options["webhook"]),
        )
        self.stderr.write(f"Key {key.pk}, of {owner}: {', '.join(key.scopes)}. It is shown only now:", str)
        self.stdout.write(token)
        if key.webhook_url:
            self.stderr.write(f"Its webhooks are signed with {key.webhook_secret}", str)

    def _list_keys(self, options: dict[str, Any]) -> None:
        for key in ApiKey.objects.select_related("user"):
            ended = ", expired/revoked" if key.expiry is not None and key.expiry <= timezone.now() else ""
            used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
            self.stdout.write(f"{key.pk}\t{key.user}\t{key}\t{','.join(key.scopes)}\t{used}{ended}")

    def _revoke_key(self, options: dict[str, Any]) -> None:
        key = ApiKey.objects.filter(pk=options["id"]).first()
        if key is None or not api_keys.revoke_api_key(key):
            raise CommandError("There is no such key, or it has expired or been revoked.")
        self.stdout.write(f"{key} revoked.")


def _check_webhook_url(url: str) -> str:
    if url:
        try:
            url_policy.parse_url(url, payload.get_url_policy())
        except WebhookUrlRefusedError as error:
            raise CommandError(f"--webhook: {error}") from None
    return url
