"""The URLs of the whole service."""

from django.contrib import admin
from django.urls import include, path

handler400 = "tasks_app.api.http.exceptions.bad_request"
handler404 = "tasks_app.api.http.exceptions.not_found"
handler500 = "tasks_app.api.http.exceptions.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("tasks_app.api.urls")),
    path("", include("tasks_app.ui.urls")),
]
