"""The API's URLs; each answers with and without a trailing slash, so that nobody's POST is redirected."""

from django.urls import include, path, re_path

from tasks_app.api import addons, health, images, metrics, models, views
from tasks_app.api.live import sse
from tasks_app.api.openapi.views import SchemaView, docs

UUID = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
ID = rf"(?P<task_id>{UUID})"

urlpatterns = [
    re_path(r"^task/?$", views.TaskList.as_view(), name="task-list"),
    re_path(r"^task/from-image/?$", images.TaskFromImage.as_view(), name="task-from-image"),
    re_path(r"^upload/?$", images.Uploads.as_view(), name="upload"),
    re_path(rf"^upload/(?P<upload_id>{UUID})/?$", images.UploadFile.as_view(), name="upload-image"),
    re_path(rf"^task/{ID}/?$", views.TaskDetail.as_view(), name="task"),
    re_path(rf"^task/{ID}/cancel/?$", views.TaskCancel.as_view(), name="task-cancel"),
    re_path(rf"^task/{ID}/reproduce/?$", views.TaskReproduce.as_view(), name="task-reproduce"),
    re_path(rf"^task/{ID}/events/?$", sse.TaskEvents.as_view(), name="task-events"),
    re_path(rf"^task/{ID}/links/?$", views.TaskLinks.as_view(), name="task-links"),
    re_path(r"^events/?$", sse.Events.as_view(), name="events"),
    re_path(rf"^task/{ID}/images/?$", views.TaskImages.as_view(), name="task-images"),
    re_path(rf"^task/{ID}/images/(?P<index>\d{{1,3}})/?$", images.TaskImageFile.as_view(), name="task-image"),
    re_path(
        rf"^task/{ID}/images/(?P<index>\d{{1,3}})/thumbnail/?$", images.TaskThumbnail.as_view(), name="task-thumbnail"
    ),
    re_path(r"^models/?$", models.Models.as_view(), name="models"),
    re_path(r"^loras/?$", addons.Loras.as_view(), name="loras"),
    re_path(r"^embeddings/?$", addons.Embeddings.as_view(), name="embeddings"),
    path("", include("tasks_app.api.compat.urls")),
    re_path(r"^schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^docs/?$", docs, name="docs"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]
