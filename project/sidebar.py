"""Titles and sidebar entries of the admin; unfold brings its own fonts and scripts."""

from __future__ import annotations

from typing import Any

from django.urls import reverse_lazy

_TASKS = reverse_lazy("admin:tasks_app_task_changelist")


def _build_entry(title: str, icon: str, model: str) -> dict[str, Any]:
    link = reverse_lazy(f"admin:tasks_app_{model}_changelist")
    needed = [f"tasks_app.{verb}_{model}" for verb in ("view", "change")]
    return {
        "title": title,
        "icon": icon,
        "link": link,
        "permission": lambda request: any(map(request.user.has_perm, needed)),
    }


def _build_tab(title: str, status: str) -> dict[str, Any]:
    return {"title": title, "link": lambda request: f"{_TASKS}?status__exact={status}"}


UNFOLD = {
    "SITE_TITLE": "Diffusers Handler",
    "SITE_HEADER": "Diffusers Handler",
    "SITE_SUBHEADER": "Text to image",
    "SITE_SYMBOL": "image",
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "tasks_app.admin.dashboard.build_dashboard_context",
    "SIDEBAR": {
        "navigation": [
            {
                "title": "Work",
                "items": [
                    {"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                    _build_entry("Tasks", "photo_library", "task"),
                    _build_entry("Webhooks", "webhook", "webhookdelivery"),
                ],
            },
            {
                "title": "Engine",
                "separator": True,
                "items": [
                    _build_entry("Workers", "memory", "worker"),
                    _build_entry("Models", "deployed_code", "diffusionmodel"),
                    _build_entry("Pauses", "pause_circle", "pause"),
                ],
            },
            {
                "title": "Access",
                "separator": True,
                "items": [
                    _build_entry("API keys", "key", "apikey"),
                    {
                        "title": "Users",
                        "icon": "person",
                        "link": reverse_lazy("admin:auth_user_changelist"),
                        "permission": lambda request: request.user.has_perm("auth.view_user"),
                    },
                    {
                        "title": "Groups",
                        "icon": "group",
                        "link": reverse_lazy("admin:auth_group_changelist"),
                        "permission": lambda request: request.user.has_perm("auth.view_group"),
                    },
                ],
            },
        ],
    },
    "TABS": [
        {
            "models": ["tasks_app.task"],
            "items": [
                {"title": "All", "link": _TASKS, "active": lambda request: "status__exact" not in request.GET},
                _build_tab("Queued", "queued"),
                _build_tab("Running", "running"),
                _build_tab("Succeeded", "succeeded"),
                _build_tab("Failed", "failed"),
                _build_tab("Canceled", "canceled"),
            ],
        }
    ],
}
