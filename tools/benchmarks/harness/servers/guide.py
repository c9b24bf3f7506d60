"""A FastAPI server like the one in diffusers' guide "Create a server".

`python -m tools.benchmarks.harness.servers.guide PORT FOLDER`

It has one pipeline, a thread pool, and images as files that are served next to the endpoint. The guide shares the
pipeline between calls; a lock admits one call at a time, because concurrent calls crash it. Needs the group `bench`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from tools.benchmarks.harness import pipeline


class Wish(BaseModel):
    """Body of a request."""

    model: str
    prompt: str
    steps: int


def serve(pipe: Any, pictures: Path) -> FastAPI:
    """Return the server's application."""
    app = FastAPI()
    app.mount("/images", StaticFiles(directory=pictures), name="images")
    lock = threading.Lock()

    def draw(wish: Wish) -> Any:
        with lock:
            return pipeline.draw(pipe, [wish.prompt], steps=wish.steps)[0]

    async def generate(wish: Wish) -> dict[str, Any]:
        image = await asyncio.get_running_loop().run_in_executor(None, partial(draw, wish))
        name = f"draw{uuid4().hex}.png"
        image.save(pictures / name)
        return {"data": [{"url": f"/images/{name}"}]}

    async def ready() -> str:
        return "ok"

    app.post("/v1/images/generations")(generate)
    app.get("/ready")(ready)
    return app


def main(port: str, folder: str) -> None:
    """Serve until the process is terminated."""
    with tempfile.TemporaryDirectory(prefix="dh-guide-") as pictures:
        app = serve(pipeline.load(Path(folder)), Path(pictures))
        uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
