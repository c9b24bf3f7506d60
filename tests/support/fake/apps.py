import os

from django.apps import AppConfig

from tasks_app.task_types import registry


class FakeConfig(AppConfig):
    name = "tests.support.fake"

    def ready(self) -> None:
        registry.register_task_type(
            registry.TaskType(
                name="text-to-image",
                provider="fake",
                params="tests.support.fake.params.FakeParams",
                handler="tests.support.fake.handler.FakeHandler",
            )
        )
        if mutation := os.environ.get("CHAOS_MUTATION"):
            from tests.support.fake import mutations

            mutations.apply_mutation(mutation)
