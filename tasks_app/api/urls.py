"""URLs of the API. The trailing slash is optional, so that no POST is redirected."""

from django.urls import include, path, re_path

from tasks_app.api import addons, health, images, metrics, models, views
from tasks_app.api.live import sse
from tasks_app.api.schema import SchemaView, docs_view

UUID = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
ID = rf"(?P<task_id>{UUID})"

urlpatterns = [
    re_path(r"^task/?$", views.TaskListView.as_view(), name="task-list"),
    re_path(r"^task/from-image/?$", images.TaskFromImageView.as_view(), name="task-from-image"),
    re_path(r"^upload/?$", images.UploadView.as_view(), name="upload"),
    re_path(rf"^upload/(?P<upload_id>{UUID})/?$", images.UploadFileView.as_view(), name="upload-image"),
    re_path(rf"^task/{ID}/?$", views.TaskDetailView.as_view(), name="task"),
    re_path(rf"^task/{ID}/cancel/?$", views.TaskCancelView.as_view(), name="task-cancel"),
    re_path(rf"^task/{ID}/reproduce/?$", views.TaskReproduceView.as_view(), name="task-reproduce"),
    re_path(rf"^task/{ID}/events/?$", sse.TaskEventsView.as_view(), name="task-events"),
    re_path(rf"^task/{ID}/links/?$", views.TaskLinksView.as_view(), name="task-links"),
    re_path(r"^events/?$", sse.EventsView.as_view(), name="events"),
    re_path(rf"^task/{ID}/images/?$", views.TaskImagesView.as_view(), name="task-images"),
    re_path(rf"^task/{ID}/images/(?P<index>\d{{1,3}})/?$", images.TaskImageFileView.as_view(), name="task-image"),
    re_path(
        rf"^task/{ID}/images/(?P<index>\d{{1,3}})/thumbnail/?$",
        images.TaskThumbnailView.as_view(),
        name="task-thumbnail",
    ),
    re_path(r"^models/?$", models.ModelListView.as_view(), name="models"),
    re_path(r"^loras/?$", addons.LoraListView.as_view(), name="loras"),
    re_path(r"^embeddings/?$", addons.EmbeddingListView.as_view(), name="embeddings"),
    path("", include("tasks_app.api.compat.urls")),
    re_path(r"^schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^docs/?$", docs_view, name="docs"),
    path("healthz", health.healthz_view, name="healthz"),
    path("readyz", health.readyz_view, name="readyz"),
    path("metrics", metrics.metrics_view, name="metrics"),
]
