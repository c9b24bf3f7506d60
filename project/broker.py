"""Dramatiq's Redis broker with consumers that block on Redis and so receive a message immediately."""

from __future__ import annotations

import threading
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed


class BlockingRedisConsumer(_RedisConsumer):
    """Consumer that blocks until a message arrives or one of its prefetch slots becomes free.

    Dramatiq's own consumer sleeps between fetches, with a back-off up to its timeout: an image that takes a tenth of a
    second to generate would take twice as long.
    """

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        """Block for at most `timeout` ms and half the socket timeout of the client; disable Dramatiq's own sleep."""
        super().__init__(broker, queue_name, prefetch, timeout=0)  # type: ignore[no-untyped-call]
        patience = broker.client.connection_pool.connection_kwargs.get("socket_timeout") or float("inf")
        self._wait_seconds = min(timeout / 1000, patience / 2)
        self._slot_freed = threading.Event()

    def __next__(self) -> Any:
        """Return the next message, or None if none arrived in time."""
        message = super().__next__()  # type: ignore[no-untyped-call]
        if message is None:
            self._wait_for_message()
        return message

    def ack(self, message: Any) -> None:
        """Remove the message from the queue and free its prefetch slot."""
        super().ack(message)  # type: ignore[no-untyped-call]
        self._slot_freed.set()

    def nack(self, message: Any) -> None:
        """Move the message to the dead-letter queue and free its prefetch slot."""
        super().nack(message)  # type: ignore[no-untyped-call]
        self._slot_freed.set()

    def _wait_for_message(self) -> None:
        if self.outstanding_message_count >= self.prefetch:
            self._slot_freed.wait(self._wait_seconds)
            self._slot_freed.clear()
            return
        queue = f"{self.broker.namespace}:{self.queue_name}"
        try:
            # Moving the queue's head to the same place changes nothing, but the command blocks while the queue is
            # empty.
            self.broker.client.blmove(queue, queue, self._wait_seconds, "LEFT", "LEFT")
        except redis.TimeoutError:
            return  # a late reply means the same as no message
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None


class BlockingRedisBroker(RedisBroker):
    """Redis broker that uses `BlockingRedisConsumer`."""

    @property
    def consumer_class(self) -> type[BlockingRedisConsumer]:
        """Return the consumer class that `consume` instantiates."""
        return BlockingRedisConsumer
