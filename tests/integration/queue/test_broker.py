"""The broker's consumers, with a real Redis and queues of their own."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from dramatiq import Message
from dramatiq.errors import ConnectionClosed

from project.broker import BlockingRedisBroker, BlockingRedisConsumer
from tests.support.stack import free_port, wait_until

# So long would be waited for a message that nobody tells of.
TIMEOUT_MS = 4000
AT_ONCE_SECONDS = 3.0


@pytest.fixture
def broker() -> Iterator[BlockingRedisBroker]:
    made = BlockingRedisBroker(url=settings.REDIS_URL, namespace=f"test-{uuid4()}", middleware=[])  # type: ignore[no-untyped-call]
    made.declare_queue("letters")
    yield made
    made.flush_all()
    made.close()


def consumer(broker: BlockingRedisBroker, *, prefetch: int = 1) -> BlockingRedisConsumer:
    made = broker.consume("letters", prefetch=prefetch, timeout=TIMEOUT_MS)
    assert isinstance(made, BlockingRedisConsumer)
    return made


def send(broker: BlockingRedisBroker, text: str) -> None:
    broker.enqueue(Message(queue_name="letters", actor_name="read", args=(text,), kwargs={}, options={}))


def take(consumer: BlockingRedisConsumer) -> Any:
    """Wait for a message as Dramatiq's thread does."""
    return wait_until(lambda: next(consumer), lambda message: message is not None)


def waiting(broker: BlockingRedisBroker) -> int:
    """Return how many consumers of this server wait for a message."""
    return sum(1 for client in broker.client.client_list() if client["cmd"] == "blmove" and "b" in client["flags"])


def test_who_waits_for_a_message_has_it_at_once(broker: BlockingRedisBroker) -> None:
    with ThreadPoolExecutor() as pool:
        taken: Future[Any] = pool.submit(take, consumer(broker))
        wait_until(lambda: waiting(broker), bool)
        sent = time.monotonic()
        send(broker, "hello")
        assert taken.result().args == ("hello",)
    assert time.monotonic() - sent < AT_ONCE_SECONDS


@pytest.mark.parametrize("leave", ["ack", "nack"])
def test_who_is_full_has_the_next_message_as_soon_as_the_last_is_done(broker: BlockingRedisBroker, leave: str) -> None:
    for text in ("first", "second"):
        send(broker, text)
    busy, began = consumer(broker), threading.Event()
    message = take(busy)

    def take_another() -> Any:
        began.set()
        return take(busy)

    with ThreadPoolExecutor() as pool:
        taken = pool.submit(take_another)
        began.wait()
        done = time.monotonic()
        getattr(busy, leave)(message)
        assert taken.result().args == ("second",)
    assert time.monotonic() - done < AT_ONCE_SECONDS


def test_waiting_leaves_the_queue_as_it_is(broker: BlockingRedisBroker) -> None:
    texts = ["one", "two", "three"]
    with ThreadPoolExecutor() as pool:
        taken = [pool.submit(take, consumer(broker)) for _ in texts]
        wait_until(lambda: waiting(broker), lambda count: count >= len(texts))
        for text in texts:
            send(broker, text)
        assert sorted(one.result().args[0] for one in taken) == sorted(texts)
    for text in texts:
        send(broker, text)
    one = consumer(broker, prefetch=3)
    one._wait_for_message()  # as when a message comes between a look and this
    assert [take(one).args[0] for _ in texts] == texts
    assert next(one) is None


def test_nobody_waits_for_longer_than_the_client_does(broker: BlockingRedisBroker) -> None:
    url = f"{settings.REDIS_URL}{'&' if '?' in settings.REDIS_URL else '?'}socket_timeout=2"
    hasty = BlockingRedisBroker(url=url, namespace=broker.namespace, middleware=[])  # type: ignore[no-untyped-call]
    hasty.declare_queue("letters")
    assert next(consumer(hasty)) is None
    hasty.close()


def test_a_redis_that_is_silent_has_no_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = BlockingRedisBroker(  # type: ignore[no-untyped-call]
            url=f"redis://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=0.1", middleware=[]
        )
        BlockingRedisConsumer(broker, "letters", 1, TIMEOUT_MS)._wait_for_message()
        broker.close()


def test_a_redis_that_is_away_is_told_in_dramatiqs_words() -> None:
    broker = BlockingRedisBroker(url=f"redis://127.0.0.1:{free_port()}", middleware=[])  # type: ignore[no-untyped-call]
    lonely = BlockingRedisConsumer(broker, "letters", 1, TIMEOUT_MS)
    with pytest.raises(ConnectionClosed) as told:
        lonely._wait_for_message()
    assert isinstance(told.value.__cause__ or told.value.args[0], redis.ConnectionError)
