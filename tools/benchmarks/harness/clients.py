"""Hundreds of clients of event streams in a separate process.

`python -m tools.benchmarks.harness.clients HOST PORT FILE PATH…`

The process writes a line to FILE once all streams have begun. On SIGTERM it appends a line for each event that carries
its sending time: that time, and the delay of its arrival in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

Deliveries = list[tuple[float, float]]


async def read(host: str, port: int, path: str, begun: asyncio.Event, deliveries: Deliveries) -> None:
    """Read one stream; its first events are a snapshot, whose times are not counted."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        status = await reader.readline()
        assert b" 200 " in status, status
        async for line in reader:
            if not line.startswith(b"data: "):
                continue
            data = json.loads(line[6:])
            if "sent" in data and begun.is_set():
                deliveries.append((data["sent"], 1000 * (time.time() - data["sent"])))
            elif "sent" in data or "queue_position" in data:
                begun.set()
    finally:
        begun.set()
        writer.close()


async def main(host: str, port: int, found: Path, paths: Sequence[str]) -> None:
    """Read all streams until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    deliveries: Deliveries = []
    begun = [asyncio.Event() for _ in paths]
    readers = [
        asyncio.create_task(read(host, port, path, told, deliveries)) for path, told in zip(paths, begun, strict=True)
    ]
    for told, reader in zip(begun, readers, strict=True):
        await told.wait()
        if reader.done():
            reader.result()
    found.write_text("begun\n")
    await ended.wait()
    with found.open("a") as lines:
        lines.writelines(f"{sent} {late}\n" for sent, late in deliveries)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]))
