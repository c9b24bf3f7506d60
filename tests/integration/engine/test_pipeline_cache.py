"""The pipeline cache: one load, one user at a time, the least recently used goes first."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks_app.engine.diffusers.pipeline_cache import PipelineCache


class Pipeline:
    def __init__(self, name: str, size: int = 0) -> None:
        self.name = name
        self.size = size
        self.itself = self  # a cycle, as real pipelines have


def use(cache: PipelineCache, name: str, *, capacity: int = 2) -> Pipeline:
    with cache.lease(name, lambda: Pipeline(name), capacity=capacity) as pipeline:
        assert isinstance(pipeline, Pipeline)
        return pipeline


def test_a_pipeline_is_loaded_once_under_concurrent_demand_and_used_by_one_at_a_time() -> None:
    cache = PipelineCache()
    start = threading.Barrier(8)
    loads: list[int] = []
    inside = threading.Lock()

    def load() -> Pipeline:
        loads.append(1)
        return Pipeline("a")

    def work() -> Pipeline:
        start.wait()
        with cache.lease("a", load, capacity=1) as pipeline:
            assert inside.acquire(blocking=False), "two users at the same moment"
            inside.release()
            return pipeline  # type: ignore[no-any-return]

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work) for _ in range(8)]
        pipelines = {id(future.result()) for future in futures}
    assert (len(loads), len(pipelines)) == (1, 1)


def test_the_least_recently_used_goes_first() -> None:
    cache = PipelineCache()
    for name in ("a", "b", "a", "c"):
        use(cache, name)
    assert cache.keys() == ["a", "c"]


def test_an_evicted_pipeline_is_really_gone_when_the_device_is_told() -> None:
    seen: list[object] = []
    cache = PipelineCache(on_evict=lambda: seen.append(first()))
    first = weakref.ref(use(cache, "a", capacity=1))
    use(cache, "b", capacity=1)
    assert seen == [None]


def test_a_leased_pipeline_is_never_evicted() -> None:
    cache = PipelineCache()
    with cache.lease("a", lambda: Pipeline("a"), capacity=1):
        use(cache, "b", capacity=1)
        assert cache.keys() == ["a", "b"]
    use(cache, "c", capacity=1)
    assert cache.keys() == ["c"]


def test_after_a_load_that_failed_the_next_user_tries_again() -> None:
    cache = PipelineCache()

    def fail() -> Pipeline:
        raise OSError

    with pytest.raises(OSError), cache.lease("a", fail, capacity=1):  # noqa: PT011
        pass
    assert cache.keys() == []
    assert use(cache, "a").name == "a"


def test_a_user_that_raises_returns_the_pipeline() -> None:
    cache = PipelineCache()
    first = use(cache, "a")
    with pytest.raises(RuntimeError), cache.lease("a", lambda: Pipeline("x"), capacity=1):
        raise RuntimeError
    assert use(cache, "a") is first


def test_loads_and_hits_are_counted_by_key_and_a_load_that_failed_is_neither() -> None:
    cache = PipelineCache()
    for name in ("a", "a", "b", "a"):
        use(cache, name, capacity=1)

    def fail() -> Pipeline:
        raise OSError

    with pytest.raises(OSError), cache.lease("c", fail, capacity=1):  # noqa: PT011
        pass
    assert cache.get_usage() == [("a", 2, 1), ("b", 1, 0)]


def test_clearing_keeps_what_is_leased() -> None:
    cache = PipelineCache()
    use(cache, "b")
    with cache.lease("a", lambda: Pipeline("a"), capacity=2):
        cache.clear()
        assert cache.keys() == ["a"]


def sized(cache: PipelineCache, name: str, size: int, *, max_bytes: int = 100) -> None:
    with cache.lease(name, lambda: Pipeline(name, size), capacity=10, max_bytes=max_bytes):
        pass


def by_bytes() -> PipelineCache:
    return PipelineCache(size_of=lambda pipeline: pipeline.size)


def test_the_least_recently_used_go_until_the_bytes_fit() -> None:
    cache = by_bytes()
    for name, size in (("a", 30), ("b", 30), ("c", 30), ("a", 30), ("d", 50)):
        sized(cache, name, size)
    # Without b there are still 110.
    assert cache.keys() == ["a", "d"]


def test_a_pipeline_that_is_too_large_alone_is_kept_alone_until_the_next() -> None:
    cache = by_bytes()
    sized(cache, "a", 30)
    sized(cache, "huge", 500)
    assert cache.keys() == ["huge"]
    sized(cache, "b", 30)
    assert cache.keys() == ["b"]


def test_for_a_pipeline_whose_size_is_known_room_is_made_before_it_is_loaded() -> None:
    cache = by_bytes()
    sized(cache, "a", 80)
    sized(cache, "b", 80)
    beside: list[list[str]] = []

    def load() -> Pipeline:
        beside.append(cache.keys())
        return Pipeline("a", 80)

    with cache.lease("a", load, capacity=10, max_bytes=100):
        pass
    assert beside == [[]]


def test_a_leased_pipeline_is_not_evicted_for_its_bytes() -> None:
    cache = by_bytes()
    with cache.lease("a", lambda: Pipeline("a", 80), capacity=10, max_bytes=100):
        sized(cache, "b", 80)
        assert cache.keys() == ["a", "b"]


def test_what_nobody_used_for_so_long_goes_but_not_what_is_leased() -> None:
    cache = PipelineCache()

    def unused_for(seconds: float, name: str) -> None:
        cache._entries[name].last_used_at -= seconds

    for name in ("a", "b"):
        use(cache, name)
        unused_for(100, name)
    use(cache, "b")
    cache.evict_idle(50)
    assert cache.keys() == ["b"]
    with cache.lease("b", pytest.fail, capacity=1):
        unused_for(100, "b")
        cache.evict_idle(50)
        assert cache.keys() == ["b"]
    cache.evict_idle(50)
    assert cache.keys() == ["b"]


def test_a_pipeline_that_has_grown_makes_others_go() -> None:
    cache = PipelineCache(size_of=lambda pipeline: pipeline.size)
    for name in ("a", "b"):
        with cache.lease(name, lambda name=name: Pipeline(name, 10), capacity=3, max_bytes=25) as pipeline:  # type: ignore[misc]
            pass
    with cache.lease("b", pytest.fail, capacity=3, max_bytes=25) as pipeline:
        pipeline.size = 20
        cache.update_size("b", capacity=3, max_bytes=25)
        assert cache.keys() == ["b"]


def test_a_discarded_pipeline_is_loaded_anew_and_is_gone_by_then() -> None:
    seen: list[object] = []
    cache = PipelineCache(on_evict=lambda: seen.append(first()))
    with cache.lease("a", lambda: Pipeline("a"), capacity=1) as pipeline:
        first = weakref.ref(pipeline)
        cache.discard("a")
        del pipeline
    assert cache.keys() == []
    second = use(cache, "a", capacity=1)
    assert second is not None
    assert seen == [None]
    assert cache.get_usage() == [("a", 2, 0)]
