import os

from django.apps import AppConfig

from tasks_app import task_types


class FakeConfig(AppConfig):
    name = "tests.fake"

    def ready(self) -> None:
        task_types.register(
            task_types.TaskType(
                name="text-to-image",
                provider="fake",
                params="tests.fake.params.FakeParams",
                handler="tests.fake.handler.FakeHandler",
            )
        )
        if mutation := os.environ.get("CHAOS_MUTATION"):
            from tests.fake import mutations

            mutations.apply(mutation)
