"""Clients of event streams, each of which reads in its own thread."""

import http.client
import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2


@dataclass(kw_only=True)
class SeenEvent:
    """One event, or a comment."""

    name: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    comment: str | None = None


class Listener(threading.Thread):
    """Thread that reads a stream until the server closes it or the `with` block ends."""

    def __init__(self, api: httpx2.Client, path: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(daemon=True)
        address = urlsplit(str(api.base_url))
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port)
        self._connection.request("GET", path, headers=dict(headers or {}))
        self._answer = self._connection.getresponse()
        self.status, self.headers = self._answer.status, self._answer.headers
        self.seen: list[SeenEvent] = []
        self.retry = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._connection.sock is not None and self.is_alive():
            # Don't shut down the sending side: data that the server still sends would trigger a reset, which the reader
            # sees.
            with suppress(OSError):  # the server may have just closed it
                self._connection.sock.shutdown(socket.SHUT_RD)
        self.join(10)
        self._connection.close()

    def run(self) -> None:
        lines: list[str] = []
        while line := self._answer.readline().decode():
            if line == "\n":
                self._parse_event(lines)
                lines = []
            else:
                lines.append(line.rstrip("\n"))

    def _parse_event(self, lines: list[str]) -> None:
        one = SeenEvent()
        for line in lines:
            name, _, value = line.partition(": ")
            match name:
                case "event":
                    one.name = value
                case "data":
                    one.data = json.loads(value)
                case "id":
                    one.id = value
                case "":
                    one.comment = value
                case "retry":
                    self.retry = int(value)
        if one.name or one.comment:
            self.seen.append(one)

    def events_named(self, *names: str) -> list[SeenEvent]:
        """Return the events with these names."""
        return [one for one in list(self.seen) if one.name in names]

    @property
    def event_names(self) -> list[str]:
        """Return the names of all events; comments, which the server sends during long pauses, have none."""
        return [one.name for one in list(self.seen) if one.name]
