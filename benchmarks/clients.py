"""Hundreds of clients of event streams in one thread."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PATIENCE_SECONDS = 60


class Clients:
    """Reads streams in an event loop of its own; keeps how late each event that says when it was sent came, in ms."""

    def __init__(self, host: str, port: int) -> None:
        self.deliveries: list[float] = []
        self._address = (host, port)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    @contextmanager
    def watching(self, paths: Sequence[str]) -> Iterator[None]:
        """Keep these streams open; all have begun when the block does."""
        self.deliveries = []
        opening = asyncio.run_coroutine_threadsafe(self._open(paths), self._loop)
        readers = opening.result(PATIENCE_SECONDS)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._close(readers), self._loop).result(PATIENCE_SECONDS)

    async def _open(self, paths: Sequence[str]) -> list[asyncio.Task[None]]:
        begun = [asyncio.Event() for _ in paths]
        readers = [asyncio.create_task(self._read(path, told)) for path, told in zip(paths, begun, strict=True)]
        for told, reader in zip(begun, readers, strict=True):
            await told.wait()
            if reader.done():
                reader.result()
        return readers

    async def _close(self, readers: Sequence[asyncio.Task[None]]) -> None:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def _read(self, path: str, begun: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._address[0]}\r\n\r\n".encode())
            status = await reader.readline()
            assert b" 200 " in status, status
            async for line in reader:
                if not line.startswith(b"data: "):
                    continue
                sent = json.loads(line[6:]).get("sent")
                if sent is not None and begun.is_set():
                    self.deliveries.append(1000 * (time.time() - sent))
                elif sent is not None or "queue_position" in line.decode():
                    begun.set()  # by the snapshot, which tells of earlier
        finally:
            begun.set()
            writer.close()
