"""Evaluate the demo model and print the results: `python -m tools.demo_model.evaluate --help`."""

import argparse
from pathlib import Path

from tools.demo_model.evaluation import colours, painter, scenes, sheet

MODELS = Path(__file__).resolve().parents[2] / "models"
MISTAKES = 12


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODELS / "demo")
    parser.add_argument("--guidance", type=float, help="instead of the card's")
    parser.add_argument("--colours", type=int, default=300, help="prompts of a shape on a background; 0 for none")
    parser.add_argument("--scenes", type=int, default=200, help="pictures of scenes; 0 for none")
    parser.add_argument("--sheet", type=Path, help="where to put a contact sheet")
    return parser.parse_args()


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} % ({part} of {whole})"


def _colours(model: painter.Painter, count: int) -> None:
    found = colours.measure(model, count)
    print(f"background's colour right: {_share(found.backgrounds, count)}")
    print(f"shape's colour right: {_share(found.shapes, count)}")
    print(f"  mistaken: {dict(found.mistaken.most_common(MISTAKES))}")


def _scenes(model: painter.Painter, count: int) -> None:
    classifier = scenes.train()
    print(f"classifier right on drawings that it has not seen: {100 * classifier.right:.1f} %")
    found = scenes.measure(model, classifier, count)
    print(f"scene right: {_share(found.right, count)}")
    print(f"  mistaken: {dict(found.mistaken.most_common(MISTAKES))}")


def main() -> None:
    """Print the metrics."""
    asked = _arguments()
    model = painter.load(asked.model, asked.guidance)
    print(f"{model.steps} steps, guidance {model.guidance}", flush=True)
    print(f"same seed, same bytes: {painter.same_bytes(model)}", flush=True)
    picture, step = painter.speed(model)
    print(f"a picture: {picture:.2f} s; a UNet step: {step * 1000:.0f} ms; ratio {picture / step:.0f}", flush=True)
    if asked.colours:
        _colours(model, asked.colours)
    if asked.scenes:
        _scenes(model, asked.scenes)
    if asked.sheet:
        sheet.contact_sheet(model).save(asked.sheet)


if __name__ == "__main__":
    main()
