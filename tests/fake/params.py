from tasks_app.handlers.diffusers.params import TextToImageParams
from tasks_app.strict import StrictChoiceField


class FakeParams(TextToImageParams):
    provider = StrictChoiceField(["fake"])
