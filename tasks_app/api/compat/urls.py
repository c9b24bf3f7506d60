"""URLs of the compatibility APIs, at the paths that their clients expect."""

from django.urls import re_path

from tasks_app.api.compat import a1111, a1111_lists, openai

urlpatterns = [
    re_path(r"^v1/images/generations/?$", openai.GenerationView.as_view(), name="openai-generations"),
    re_path(r"^v1/models/?$", openai.ModelListView.as_view(), name="openai-models"),
    re_path(r"^v1/models/(?P<name>.+?)/?$", openai.ModelDetailView.as_view(), name="openai-model"),
    re_path(r"^sdapi/v1/txt2img/?$", a1111.TextToImageView.as_view(), name="a1111-txt2img"),
    re_path(r"^sdapi/v1/progress/?$", a1111.ProgressView.as_view(), name="a1111-progress"),
    re_path(r"^sdapi/v1/interrupt/?$", a1111.InterruptView.as_view(), name="a1111-interrupt"),
    re_path(r"^sdapi/v1/options/?$", a1111.OptionsView.as_view(), name="a1111-options"),
    re_path(r"^sdapi/v1/sd-models/?$", a1111_lists.ModelListView.as_view(), name="a1111-models"),
    re_path(r"^sdapi/v1/loras/?$", a1111_lists.LoraListView.as_view(), name="a1111-loras"),
    re_path(r"^sdapi/v1/embeddings/?$", a1111_lists.EmbeddingListView.as_view(), name="a1111-embeddings"),
    re_path(r"^sdapi/v1/samplers/?$", a1111_lists.SamplerListView.as_view(), name="a1111-samplers"),
    re_path(r"^sdapi/v1/schedulers/?$", a1111_lists.SchedulerListView.as_view(), name="a1111-schedulers"),
    re_path(r"^sdapi/v1/png-info/?$", a1111.PngInfoView.as_view(), name="a1111-png-info"),
    re_path(r"^sdapi/v1/(?P<what>[a-z-]+)/?$", a1111_lists.EmptyListView.as_view(), name="a1111-nothing"),
]
