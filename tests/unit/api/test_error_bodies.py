"""Errors in the shape of the API that is spoken."""

from typing import Any

from tasks_app import answers
from tasks_app.api.http.error_bodies import adapt_error_body, build_error_body

FIELDS: list[answers.InvalidField] = [
    {"path": "override_settings.model", "code": "invalid", "message": "Must be a string."},
    {"path": "", "code": "invalid", "message": "Must be an object."},
]


def test_ours_stays_as_it_is() -> None:
    body = build_error_body("invalid_params", "Wrong.", fields=FIELDS)
    assert adapt_error_body("/task", 400, body) is body


def test_openai_has_one_field_a_type_and_codes_of_its_own() -> None:
    wrong = adapt_error_body(
        "/v1/images/generations", 400, build_error_body("model_not_allowed", "Wrong.", fields=FIELDS)
    )
    assert wrong["error"] == {
        "message": "Wrong.",
        "type": "invalid_request_error",
        "param": "override_settings.model",
        "code": "model_not_found",
    }
    many: Any = adapt_error_body("/v1/models", 429, build_error_body("limit_exceeded", "Too many."))["error"]
    assert (many["type"], many["param"], many["code"]) == ("rate_limit_error", None, "rate_limit_exceeded")
    failed: Any = adapt_error_body("/v1/models", 503, build_error_body("unavailable", "Away."))["error"]
    assert (failed["type"], failed["code"]) == ("server_error", "unavailable")


def test_a1111_has_fastapi_s_details_or_a_sentence() -> None:
    told: Any = adapt_error_body("/sdapi/v1/txt2img", 422, build_error_body("invalid_params", "Wrong.", fields=FIELDS))
    assert told["detail"] == [
        {"loc": ["body", "override_settings", "model"], "msg": "Must be a string.", "type": "invalid"},
        {"loc": ["body"], "msg": "Must be an object.", "type": "invalid"},
    ]
    assert (told["error"], told["errors"], told["body"]) == ("invalid_params", "Wrong.", "")
    absent: Any = adapt_error_body("/sdapi/v1/x", 404, build_error_body("not_found", "Nothing."))
    assert absent["detail"] == "Nothing."
