"""The scene metric: a small classifier, trained on drawings, names the scene of an image."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from tools.demo_model.evaluation.painter import Painter
from tools.demo_model.training.scenes import SCENES, draw_scene

KINDS = list(SCENES)
SIDE = 32
TRAINING, TESTING, BATCH, EPOCHS = 4400, 1100, 50, 4
FIRST_SEED = 5000

PROMPTS: dict[str, tuple[str, ...]] = {
    "forest": ("a beautiful forest with sunlight filtering through leaves", "a forest", "a forest at night"),
    "summer tree": ("a tree", "a tree on a meadow at sunset", "a green tree"),
    "autumn tree": ("an autumn tree", "a tree in autumn at dawn", "a tree in fall"),
    "winter tree": ("a winter tree", "a bare tree in the snow at night", "a tree in winter"),
    "beach": ("a beach", "a beach with a sailboat", "a beach at sunset"),
    "mountains": ("mountains", "mountains with a lake", "snowy mountains at dawn"),
    "flower": ("a yellow flower", "a red flower", "a purple flower at night"),
    "night sky": ("a night sky", "a night sky with a moon", "a starry night sky"),
    "house": ("a red house", "a house at sunset", "a white house with a blue roof"),
    "city": ("a city skyline", "a city skyline at night", "a city with tall buildings at sunset"),
    "neon city": ("a futuristic cyberpunk city", "a neon city at night", "a cyberpunk city"),
}


def prompts(count: int) -> list[tuple[str, str]]:
    """Return kinds and prompts, with every kind about equally often."""
    return [
        (kind, PROMPTS[kind][number // len(KINDS) % len(PROMPTS[kind])])
        for number in range(count)
        for kind in [KINDS[number % len(KINDS)]]
    ]


def _pixels(pictures: list[Image.Image]) -> torch.Tensor:
    small = [np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _drawn(count: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images for the classifier only; the name seeds them, so that they differ from every other set."""
    kinds = [number % len(KINDS) for number in range(count)]
    drawings = [draw_scene(Random(f"{name}/{number}"), KINDS[kind]) for number, kind in enumerate(kinds)]
    return _pixels([drawing.image for drawing in drawings]), torch.tensor(kinds)


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, len(KINDS)))


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Scene classifier, with its accuracy on drawings that it was not trained on."""

    network: nn.Sequential
    right: float

    @torch.no_grad()
    def name(self, pictures: list[Image.Image]) -> list[str]:
        """Return the scene names of images."""
        return [KINDS[number] for number in self.network(_pixels(pictures)).argmax(dim=1)]


def train() -> Classifier:
    """Train the classifier, deterministically, and test it on drawings it was not trained on."""
    torch.manual_seed(0)
    network = _network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    pictures, kinds = _drawn(TRAINING, "classifier")
    for _ in range(EPOCHS):
        for chosen in torch.randperm(TRAINING).split(BATCH):
            # Add noise, so that the classifier does not rely on single pixels.
            noisy = pictures[chosen] + 0.1 * torch.randn_like(pictures[chosen])
            optimizer.zero_grad()
            functional.cross_entropy(network(noisy), kinds[chosen]).backward()
            optimizer.step()
    network.eval()
    pictures, kinds = _drawn(TESTING, "classifier's test")
    with torch.no_grad():
        right = (network(pictures).argmax(dim=1) == kinds).float().mean().item()
    return Classifier(network=network, right=right)


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Number of images, how many show the scene, and the mistakes."""

    count: int
    right: int
    mistaken: Counter[str]


def measure(painter: Painter, classifier: Classifier, count: int) -> Scenes:
    """Generate images of scenes and classify them."""
    asked = prompts(count)
    pictures = painter.paint([prompt for _, prompt in asked], [FIRST_SEED + number for number in range(count)])
    found = list(zip(asked, classifier.name(pictures), strict=True))
    return Scenes(
        count=count,
        right=sum(kind == name for (kind, _), name in found),
        mistaken=Counter(f"{prompt} as {name}" for (kind, prompt), name in found if kind != name),
    )
