"""View of the web UI: the server renders the whole page, and `static/web/page.js` makes it interactive."""

from __future__ import annotations

from django.contrib.auth.views import redirect_to_login
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from tasks_app.access import permissions
from tasks_app.contracts import Principal
from tasks_app.images import storage
from tasks_app.models import Scope, Status, Task
from tasks_app.ui.form import build_form

# Finished tasks that are rendered with the page; the script requests more from the API.
MAX_TASKS_SHOWN = 24


@require_safe
def index_page(request: HttpRequest) -> HttpResponse:
    """Render the page with the newest images; redirect visitors without read access to the login page."""
    caller = permissions.get_user_principal(request.user)
    if Scope.READ not in caller.scopes:
        return redirect_to_login(request.path, reverse("admin:login"))
    answer = render(
        request, "web/page.html", {"form": build_form(), "tasks": _get_newest_tasks(caller), "newest": MAX_TASKS_SHOWN}
    )
    answer["Content-Security-Policy"] = _build_content_policy()
    answer["Cache-Control"] = "no-cache"
    return answer


def _get_newest_tasks(caller: Principal) -> QuerySet[Task]:
    tasks = permissions.filter_visible(Task.objects.all(), caller)
    return tasks.filter(status=Status.SUCCEEDED).prefetch_related("images")[:MAX_TASKS_SHOWN]


def _build_content_policy() -> str:
    """Return a policy that allows only this origin, images from the bucket and, for previews, `data:` images.

    It allows no inline scripts or styles.
    """
    return "; ".join(
        [
            "default-src 'self'",
            f"img-src 'self' data: {storage.get_redirect_origin()}".rstrip(),
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
