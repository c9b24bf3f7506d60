"""What is counted as lost."""

from tools.benchmarks.harness.load import Found
from tools.benchmarks.kills import rows


def test_only_the_service_is_held_to_losing_nothing() -> None:
    lost = Found(seconds=12.3, latencies=[1.0] * 61, lost=3)
    _, ours, peer = rows({"ours batched": lost, "guide": lost})
    assert ours == ["service, batches", "64", "3", "12", "≤0: missed"]
    assert peer == ["FastAPI, guide", "64", "3", "12", ""]
