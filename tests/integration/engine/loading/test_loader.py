"""Which pipeline a model's folder is loaded as."""

from collections.abc import Iterator

import pytest
from diffusers import DiffusionPipeline
from diffusers.pipelines import auto_pipeline

from tasks_app.engine.diffusers.loading.loader import is_text_to_image

TABLES = (
    auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
    auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    auto_pipeline._AUTO_TEXT2IMAGE_DECODER_PIPELINES_MAPPING,
    auto_pipeline._AUTO_IMAGE2IMAGE_DECODER_PIPELINES_MAPPING,
    auto_pipeline._AUTO_INPAINT_DECODER_PIPELINES_MAPPING,
)


def known() -> Iterator[tuple[type[DiffusionPipeline], type[DiffusionPipeline] | None]]:
    """Yield each pipeline that AutoPipeline knows, and what it would make of one for text to image."""
    for kind in {kind for table in TABLES for kind in table.values()}:
        yield kind, auto_pipeline._get_task_class(TABLES[0], kind.__name__, throw_error_if_not_exist=False)


def test_what_is_loaded_as_its_own_pipeline_is_what_auto_pipeline_would_make_of_it() -> None:
    own = {kind: found for kind, found in known() if is_text_to_image(kind)}
    assert len(own) > 30
    assert {kind: found for kind, found in own.items() if found is not kind} == {}


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "FluxInpaintPipeline", "KandinskyV22Pipeline"])
def test_what_begins_with_more_than_a_prompt_is_left_to_auto_pipeline(name: str) -> None:
    assert [is_text_to_image(kind) for kind, _ in known() if kind.__name__ == name] == [False]
