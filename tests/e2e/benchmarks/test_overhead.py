"""What the service adds: how it is worked out of what both sides took."""

import pytest

from tools.benchmarks.overhead import Seconds, gaps, lines

TIMINGS = {"loading": 0.1, "denoising": 0.6, "decoding": 0.2, "saving": 5.0}


def test_what_is_added_is_told_in_milliseconds_and_judged() -> None:
    found = Seconds(bare=[0.80, 0.82], queued=[0.84, 0.90], alone=[0.9, 0.9], idle=[0.02, 0.04])
    cells = {line.title: line.cells() for line in lines(found, accelerated=False)}
    assert cells["… pictures a second, by bare"][1:] == ["0.93", "0.91 … 0.95", ""]
    assert cells["… the pipeline idle between two runs"][1] == "30.0 ms"
    added = next(line for line in lines(found, accelerated=False) if line.target)
    assert added.cells()[1:] == ["60.0 ms", "40.0 … 80.0", "≤60 ms: met"]


def test_an_accelerator_is_judged_by_pictures_a_second() -> None:
    found = Seconds(bare=[1.0], queued=[1.1], alone=[1.1], idle=[0.02])
    (judged,) = [line.cells() for line in lines(found, accelerated=True) if line.target]
    assert judged == ["… pictures a second, by bare", "0.91", "0.91 … 0.91", "≥0.97: missed"]


def test_the_pipeline_is_idle_from_the_end_of_one_decoding_to_the_next_claim_whatever_the_saving_takes() -> None:
    tasks = [
        {"started_at": "2026-11-24T10:00:01.950000+00:00", "timings": TIMINGS},
        {"started_at": "2026-11-24T10:00:00+00:00", "timings": TIMINGS},
        {"started_at": "2026-11-24T10:00:01+00:00", "timings": TIMINGS},
    ]
    assert gaps(tasks) == pytest.approx([0.1, 0.05])
