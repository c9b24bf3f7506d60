"""JSON bodies of error responses, in the formats of all APIs."""

from __future__ import annotations

from tasks_app import answers


def build_error_body(
    code: str,
    message: str,
    *,
    retryable: bool = False,
    fields: list[answers.InvalidField] | None = None,
    limit: answers.Limit | None = None,
) -> answers.ErrorBody:
    """Return the JSON of an error."""
    error: answers.Error = {"code": code, "message": message, "retryable": retryable}
    if fields is not None:
        error["fields"] = fields
    if limit is not None:
        error["limit"] = limit
    return {"error": error}


def adapt_error_body(
    path: str, status: int, body: answers.ErrorBody
) -> answers.ErrorBody | answers.OpenAIError | answers.A1111Error:
    """Return an error's JSON in the format of the API that the path belongs to: ours, OpenAI's or A1111's."""
    if path.startswith("/v1/"):
        return _to_openai_error(status, body["error"])
    if path.startswith("/sdapi/"):
        return _to_a1111_error(body["error"])
    return body


# OpenAI's names of our error codes, if they differ.
_OPENAI_CODES = {
    "unauthorized": "invalid_api_key",
    "model_not_allowed": "model_not_found",
    "limit_exceeded": "rate_limit_exceeded",
}


def _to_openai_error(status: int, error: answers.Error) -> answers.OpenAIError:
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    paths = [field["path"] for field in error.get("fields", [])]
    return {
        "error": {
            "message": error["message"],
            "type": kind,
            "param": paths[0] or None if paths else None,
            "code": _OPENAI_CODES.get(error["code"], error["code"]),
        }
    }


def _to_a1111_error(error: answers.Error) -> answers.A1111Error:
    fields: list[answers.A1111ErrorField] = [
        {"loc": ["body", *filter(None, field["path"].split("."))], "msg": field["message"], "type": field["code"]}
        for field in error.get("fields", [])
    ]
    return {"error": error["code"], "detail": fields or error["message"], "body": "", "errors": error["message"]}
