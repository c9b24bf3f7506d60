"""A storage that a test can block."""

import threading
from typing import Any

from tasks_app.images.storage import DurableStorage

may_save = threading.Event()
may_save.set()
save_started = threading.Event()


class BlockingStorage(DurableStorage):
    def _save(self, name: str, content: Any) -> str:
        save_started.set()
        assert may_save.wait(timeout=30)
        return super()._save(name, content)
