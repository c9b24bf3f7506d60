"""URL of the web UI."""

from django.urls import path

from tasks_app.ui import views

urlpatterns = [path("", views.index_page, name="page")]
