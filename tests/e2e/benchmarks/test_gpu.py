"""The script for accelerators, at the tiny size that it has on a CPU."""

import json
from pathlib import Path

import pytest
import torch

from tools.benchmarks import gpu
from tools.benchmarks.gpu import Seen
from tools.benchmarks.harness import architectures


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_gpu_the_same_runs_at_a_tiny_size_and_says_what_is_owed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main(["--short", "--save", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "still owed" in printed
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    assert [row[0] for row in cells[2:]] == ["1", "4", "8"]
    assert {row[4] for row in cells[2:]} == {"owed"}
    index = json.loads((tmp_path / gpu.NAME / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"


def test_the_share_of_the_peak_counts_what_the_service_draws() -> None:
    found = {(False, 4): Seen(bare=[10.0, 10.0], service=[9.0, 9.5])}
    row = gpu.tell(found, per_picture=10**9, limit=10**11).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]][:4] == ["4", "10.00", "9.25", "0.925 (0.900 … 0.950)"]
    assert row.split("|")[-2].strip() == "9.2 %"


def test_the_architecture_is_that_of_stable_diffusion_1_5() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**architectures.UNET)
        words = CLIPTextModel(CLIPTextConfig(**architectures.TEXT_ENCODER))
        vae = AutoencoderKL(**architectures.VAE)
    counts = [sum(one.numel() for one in part.parameters()) for part in (unet, words, vae)]
    # As the files of Stable Diffusion 1.5 have them.
    assert counts == [859_520_964, 123_060_480, 83_653_863]
