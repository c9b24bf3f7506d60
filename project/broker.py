"""Dramatiq's Redis broker, but its workers hear of a message at once, where its own look for one now and then."""

from __future__ import annotations

import threading
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed


class BlockingRedisConsumer(_RedisConsumer):
    """Takes messages off a queue; between two looks it waits for what would let it take one.

    Dramatiq's own sleeps there, for longer and longer up to its timeout: a picture that takes a tenth of a second would
    take twice as long.
    """

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        """Wait for `timeout` milliseconds at most, and well within the client's own; Dramatiq's sleep is 0."""
        super().__init__(broker, queue_name, prefetch, timeout=0)  # type: ignore[no-untyped-call]
        patience = broker.client.connection_pool.connection_kwargs.get("socket_timeout") or float("inf")
        self._wait_seconds = min(timeout / 1000, patience / 2)
        self._slot_freed = threading.Event()

    def __next__(self) -> Any:
        """Return the next message; None when there was none in time."""
        message = super().__next__()  # type: ignore[no-untyped-call]
        if message is None:
            self._wait_for_message()
        return message

    def ack(self, message: Any) -> None:
        """Take the message off the queue for good, and have room for another one."""
        super().ack(message)  # type: ignore[no-untyped-call]
        self._slot_freed.set()

    def nack(self, message: Any) -> None:
        """Take the message to the dead letters, and have room for another one."""
        super().nack(message)  # type: ignore[no-untyped-call]
        self._slot_freed.set()

    def _wait_for_message(self) -> None:
        if self.outstanding_message_count >= self.prefetch:
            self._slot_freed.wait(self._wait_seconds)
            self._slot_freed.clear()
            return
        queue = f"{self.broker.namespace}:{self.queue_name}"
        try:
            # From its head to its head: the queue stays as it is, but while it is empty this blocks.
            self.broker.client.blmove(queue, queue, self._wait_seconds, "LEFT", "LEFT")
        except redis.TimeoutError:
            return  # an answer that comes late says no more than none
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None


class BlockingRedisBroker(RedisBroker):
    """Dramatiq's broker with these consumers."""

    @property
    def consumer_class(self) -> type[BlockingRedisConsumer]:
        """Return what `consume` makes."""
        return BlockingRedisConsumer
