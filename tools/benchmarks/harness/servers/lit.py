"""LitServe around the pipeline; needs the group `bench`.

`python -m tools.benchmarks.harness.servers.lit PORT FOLDER BATCH`
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import litserve
from fastapi import Response

from tools.benchmarks.harness import pipeline

# Maximum time that a batch waits for more requests, as in LitServe's documentation.
BATCH_TIMEOUT_SECONDS = 0.01


class Drawer(litserve.LitAPI):  # type: ignore[misc]
    """LitServe API that generates one image per request and batches waiting requests into one call."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(**options)
        self._folder = folder

    def setup(self, device: str) -> None:
        """Load the model."""
        self.pipe = pipeline.load(self._folder, device)

    def predict(self, asked: Any) -> Any:
        """Generate images; with batching, `asked` is a list."""
        wishes = asked if isinstance(asked, list) else [asked]
        images = pipeline.draw(self.pipe, [wish["prompt"] for wish in wishes], steps=wishes[0]["steps"])
        return images if isinstance(asked, list) else images[0]

    def encode_response(self, output: Any) -> Response:
        """Return the image as a PNG response."""
        buffer = io.BytesIO()
        output.save(buffer, format="PNG")
        return Response(content=buffer.getvalue(), media_type="image/png")


def main(port: str, folder: str, batch: str) -> None:
    """Serve until the process is terminated."""
    many = {"max_batch_size": int(batch), "batch_timeout": BATCH_TIMEOUT_SECONDS} if int(batch) > 1 else {}
    server = litserve.LitServer(Drawer(Path(folder), **many), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
