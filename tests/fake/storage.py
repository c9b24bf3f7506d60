"""A storage that a test holds up."""

import threading
from typing import Any

from tasks_app.images.storage import DurableStorage

free = threading.Event()
free.set()
asked = threading.Event()


class Waiting(DurableStorage):
    def _save(self, name: str, content: Any) -> str:
        asked.set()
        assert free.wait(timeout=30)
        return super()._save(name, content)
