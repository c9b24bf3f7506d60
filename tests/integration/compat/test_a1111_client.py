"""The `webuiapi` package against a running server."""

import base64
import io
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image
from webuiapi import WebUIApi

from tasks_app import services
from tasks_app.models import Pause, Scope, Task
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]
MakeKey = Callable[..., str]
SMALL: dict[str, Any] = {"prompt": "a beach", "width": 64, "height": 64, "steps": 2}


def client(address: Any, key: str = "") -> WebUIApi:
    parts = urlsplit(str(address))
    return WebUIApi(host=parts.hostname, port=parts.port, username="anything" if key else None, password=key or None)


@pytest.fixture
def api(stack: Stack) -> WebUIApi:
    return client(stack.api.base_url)


class Asked(threading.Thread):
    """A request that goes on while the test looks at it."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__()
        self.ask, self.answer, self.error = ask, None, ""
        self.start()

    def run(self) -> None:
        try:
            self.answer = self.ask()
        except RuntimeError as error:  # what the package raises for every refusal
            self.error = str(error)


def test_pictures_are_made_as_the_client_asks_for_them(api: WebUIApi) -> None:
    answer = api.txt2img(**SMALL, negative_prompt="rain", seed=7, batch_size=2, cfg_scale=3)
    assert [image.size for image in answer.images] == [(64, 64)] * 2
    assert answer.images[0].tobytes() != answer.images[1].tobytes()
    task = Task.objects.get()
    assert task.params == {
        "prompt": "a beach",
        "negative_prompt": "rain",
        "steps": 2,
        "guidance_scale": 3.0,
        "width": 64,
        "height": 64,
        "num_images": 2,
        "scheduler": "euler_a",
        "loras": [],
        "embeddings": [],
        "output_format": "png",
    }
    info = answer.info
    assert (info["seed"], info["all_seeds"], info["sampler_name"], info["sd_model_name"]) == (
        7,
        [7, 8],
        "Euler a",
        "demo",
    )
    text = "a beach\nNegative prompt: rain\nSteps: 2, Sampler: Euler a, CFG scale: 3, Seed: 8, Size: 64x64"
    assert info["infotexts"][1].startswith(text)
    read = api.png_info(answer.images[1])
    assert read.info == info["infotexts"][1]
    assert (read.parameters["Prompt"], read.parameters["Seed"]) == ("a beach", "8")
    assert answer.parameters["batch_size"] == 2


def test_a_silent_body_gets_the_model_s_own_ways(stack: Stack) -> None:
    body = {"prompt": "a beach", "steps": 1, "seed": -1, "send_images": False, "width": None, "script_name": None}
    answer = stack.api.post("/sdapi/v1/txt2img/", json=body, timeout=60).raise_for_status().json()
    task = Task.objects.get()
    assert (task.params["width"], task.params["scheduler"], task.params["num_images"]) == (64, None, 1)
    assert answer["images"] == []
    assert json.loads(answer["info"])["seed"] == answer["parameters"]["seed"] == task.seed


def test_progress_and_preview_are_seen_and_the_interrupt_reaches_only_one_s_own(
    stack: Stack, make_key: MakeKey
) -> None:
    mine, other = client(stack.api.base_url, make_key("mine")), client(stack.api.base_url, make_key("other"))
    asked = Asked(lambda: mine.txt2img(**{**SMALL, "steps": 150, "batch_size": 8}))
    seen = wait_until(mine.get_progress, lambda now: now["state"]["sampling_step"] >= 3 and now["current_image"])
    assert 0 < seen["progress"] < 1
    assert (seen["state"]["job_count"], seen["state"]["sampling_steps"]) == (1, 150)
    with Image.open(io.BytesIO(base64.b64decode(seen["current_image"]))) as preview:
        preview.load()
    assert mine.custom_get("progress?skip_current_image=true", baseurl=True)["current_image"] is None

    assert other.get_progress()["state"]["job_count"] == 0
    assert other.interrupt() == {}
    assert not Task.objects.get().cancel_requested_at

    assert mine.interrupt() == {}
    asked.join(timeout=30)
    assert "409" in asked.error
    assert "canceled" in asked.error
    assert Task.objects.get().status == "canceled"
    assert mine.get_progress()["progress"] == 0
    mine.util_wait_for_ready()


def test_each_key_has_its_own_model(stack: Stack, make_key: MakeKey) -> None:
    mine, other = client(stack.api.base_url, make_key("mine")), client(stack.api.base_url, make_key("other"))
    mine.util_set_model("runwayml/stable-diffusion-v1-5", find_closest=False)
    assert mine.util_get_current_model() == "runwayml/stable-diffusion-v1-5"
    assert other.util_get_current_model() == "demo"

    other.txt2img(**SMALL)
    mine.txt2img(**SMALL, override_settings={"sd_model_checkpoint": "demo"})
    with pytest.raises(RuntimeError, match="model_unavailable"):
        mine.txt2img(**SMALL)
    models = list(Task.objects.order_by("created_at").values_list("requested_model_id", flat=True))
    assert models == ["demo", "demo", "runwayml/stable-diffusion-v1-5"]

    mine.util_set_model("dem")
    assert mine.util_get_current_model() == "demo"


def test_a_picture_that_tells_nothing_is_told_from_what_is_none(api: WebUIApi) -> None:
    large = Image.effect_noise((900, 900), 80)  # over the limit of other bodies
    assert api.png_info(large).json == {"info": "", "items": {}, "parameters": {}}
    with pytest.raises(RuntimeError, match="Must be valid Base64"):
        api._to_api_result(api.session.post(f"{api.baseurl}/png-info", json={"image": "data:image/png;base64,?"}))
    with pytest.raises(RuntimeError, match="not a PNG, JPEG or WebP file"):
        api._to_api_result(api.session.post(f"{api.baseurl}/png-info", json={"image": "AAAA"}))


def test_menus_are_filled(api: WebUIApi) -> None:
    assert "demo" in api.util_get_model_names()
    assert {"Euler a", "DPM++ 2M", "DPM++ 2M Karras"} <= set(api.util_get_sampler_names())
    assert "karras" in api.util_get_scheduler_names()
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert (api.get_upscalers(), api.get_loras(), api.get_cmd_flags()) == ([], [], {})


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        ({"enable_hr": True}, "enable_hr", "Not supported"),
        ({"script_name": "X/Y/Z plot"}, "script_name", "Not supported"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True, {}]}}}, "alwayson_scripts", "doesn't support: ADetailer"),
        ({"sampler_name": "DPM fast"}, "sampler_name", "Must be one of: DDIM"),
        (
            {"sampler_name": "Euler a", "scheduler": "karras"},
            "scheduler",
            "The schedule karras is not supported for Euler a",
        ),
        ({"width": 65}, "width", "multiple of 8"),
        ({"steps": 0}, "steps", "between 1 and 150"),
        ({"cfg_scale": "7"}, "cfg_scale", "Must be a number"),
        ({"batch_size": 4, "n_iter": 4}, "batch_size × n_iter", "between 1 and 8"),
        ({"n_iter": 0}, "n_iter", "between 1 and 1000"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "override_settings", "CLIP_stop_at_last_layers"),
        ({"override_settings": {"sd_model_checkpoint": "v9"}}, "sd_model_checkpoint", "does not allow this model"),
    ],
)
def test_what_can_t_be_done_is_refused_in_words(api: WebUIApi, body: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(RuntimeError) as refusal:
        api.txt2img(**{**SMALL, **body})
    status, text = refusal.value.args
    (detail,) = json.loads(text)["detail"]
    assert (status, detail["loc"][-1]) == (422, path)
    assert said in detail["msg"]
    assert not Task.objects.exists()


def test_fields_that_nobody_knows_may_ask_for_nothing(guarded: str, make_key: MakeKey) -> None:
    services.pause_claims(Pause.Scope.QUEUE)  # the other server's worker would take it
    with httpx2.Client(base_url=guarded, auth=("anything", make_key())) as raw:
        idle = {"ControlNet": {"args": [{"enabled": False, "module": "canny"}]}, "ADetailer": {"args": [False]}}
        late = raw.post("/sdapi/v1/txt2img", json={**SMALL, "alwayson_scripts": idle, "new_thing": False})
        refused = raw.post("/sdapi/v1/txt2img", json={**SMALL, "new_thing": 3})
    assert (late.status_code, late.json()["error"]) == (504, "wait_timeout")
    assert refused.status_code == 422
    assert refused.json()["errors"] == "new_thing: Unknown field."


def test_what_no_utf8_can_carry_is_no_crash(guarded: str, make_key: MakeKey) -> None:
    odd = b'{"prompt": "x", "comments": "\\ud800", "alwayson_scripts": {"\\ud800": {"args": [1]}}, '
    odd += b'"override_settings": {"\\ud800": 1}, "scheduler": "\\ud800", "sampler_name": "\\ud800", "\\ud800": 1}'
    with httpx2.Client(base_url=guarded, auth=("anything", make_key())) as raw:
        headers = {"Content-Type": "application/json"}
        answer = raw.post("/sdapi/v1/txt2img", content=odd, headers=headers)
        assert raw.post("/sdapi/v1/options", content=b'{"\\ud800": 1}', headers=headers).status_code == 422
    assert answer.status_code == 422
    named = {detail["loc"][-1] for detail in answer.json()["detail"]}
    assert named == {"alwayson_scripts", "override_settings", "scheduler", "sampler_name", "\\ud800"}


def test_the_key_is_the_password(guarded: str, make_key: MakeKey) -> None:
    assert client(guarded, make_key()).util_get_current_model() == "demo"
    assert client(guarded).get_options()["error"] == "unauthorized"
    assert client(guarded, "dh_" + "0" * 64).get_options()["error"] == "unauthorized"
    reader = client(guarded, make_key("reader", (Scope.READ,)))
    assert reader.set_options({"sd_model_checkpoint": "demo"})["error"] == "forbidden"
    assert reader.get_progress()["progress"] == 0


def test_options_that_can_t_be_changed_are_refused(guarded: str, make_key: MakeKey) -> None:
    mine = client(guarded, make_key())
    assert "sd_hypernetwork" in mine.set_options({"sd_hypernetwork": "x"})["errors"]
    assert "does not allow" in mine.set_options({"sd_model_checkpoint": "x"})["errors"]
    assert "name of a model" in mine.set_options({"sd_model_checkpoint": 5})["errors"]
    assert mine.set_options({"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}) == {}
    assert mine.custom_get("reactor/models", baseurl=True) == {
        "error": "not_found",
        "detail": "Not found.",
        "body": "",
        "errors": "Not found.",
    }
