from tasks_app.engine.diffusers.params import TextToImageParams
from tasks_app.fields import StrictChoiceField


class FakeParams(TextToImageParams):
    provider = StrictChoiceField(["fake"])
