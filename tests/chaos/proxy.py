"""A TCP proxy for a Unix socket or a port that can drop or delay the reply to a chosen request.

A rule lists the requests that a connection must send, in that order. The reply to the last one is then dropped together
with the connection, or held back until the rule is released: the server has executed the request, but the client does
not know.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 1 << 16
# The name that a PostgreSQL client reports, from PGAPPNAME.
APPLICATION_NAME = re.compile(rb"application_name\0([^\0]+)\0")


@dataclass(kw_only=True, eq=False)
class Rule:
    """Fault for one reply; `victim` is the name of the affected connection."""

    requests: tuple[bytes, ...]
    reply: Callable[[bytes], bool] = lambda reply: True
    sender: str = ""
    hold: bool = False
    victim: str = ""
    fired: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class Connection:
    """One client, with its progress through the armed rules."""

    def __init__(self) -> None:
        self.name = ""
        self.pending: Rule | None = None
        self._seen: dict[Rule, int] = {}

    def on_request(self, data: bytes, rules: list[Rule]) -> None:
        """Match data that the client sends against the rules."""
        if found := APPLICATION_NAME.search(data):
            self.name = found.group(1).decode()
        self.pending = None
        for rule in rules:
            if not self.name.startswith(rule.sender):
                continue
            seen = self._seen.get(rule, 0)
            while seen < len(rule.requests) and rule.requests[seen] in data:
                seen += 1
            self._seen[rule] = seen % len(rule.requests)
            if seen == len(rule.requests):
                self.pending = rule


class Proxy:
    """Proxy from `port` on 127.0.0.1 to the target, a Unix socket or another port there."""

    def __init__(self, target: Path | int, watched: bytes = b"\0nothing\0") -> None:
        """Start listening; `first_seen` records when each client first sent the watched bytes."""
        self.target = target
        self.first_seen: dict[str, float] = {}
        self.port = 0
        self._watched = watched
        self._rules: list[Rule] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run_loop, name="proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def add_rule(self, rule: Rule) -> Rule:
        """Apply the rule once, to the next connection that matches it."""
        self._rules = [*self._rules, rule]
        return rule

    def remove_rule(self, rule: Rule) -> None:
        """Remove a rule and release the reply it holds back."""
        self._rules = [one for one in self._rules if one is not rule]
        rule.released.set()

    def cut_connections(self) -> None:
        """Abort every open connection, but accept new ones."""
        asyncio.run_coroutine_threadsafe(self._abort_connections(), self._loop).result(10)

    def close(self) -> None:
        """Release all rules and stop the proxy."""
        for rule in self._rules:
            self.remove_rule(rule)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve_client, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _abort_connections(self) -> None:
        for end in self._open:
            end.transport.abort()

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await self._connect_target()
        except OSError:
            writer.close()
            return
        one = Connection()
        self._open |= {writer, up_writer}
        pumps = [
            asyncio.ensure_future(self._forward_requests(one, reader, up_writer)),
            asyncio.ensure_future(self._forward_replies(one, up_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, up_writer):
                end.close()
                self._open.discard(end)

    async def _connect_target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, int):
            return await asyncio.open_connection("127.0.0.1", self.target)
        return await asyncio.open_unix_connection(self.target)

    async def _forward_requests(
        self, one: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                one.on_request(data, self._rules)
                if self._watched in data:
                    self.first_seen.setdefault(one.name, time.time())
                writer.write(data)
                await writer.drain()

    async def _forward_replies(
        self, one: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                rule, one.pending = one.pending, None
                if rule and rule in self._rules and rule.reply(data):
                    self._rules = [other for other in self._rules if other is not rule]
                    rule.victim = one.name
                    rule.fired.set()
                    if not rule.hold:
                        return
                    await asyncio.to_thread(rule.released.wait)
                writer.write(data)
                await writer.drain()
