"""Logging configuration: one formatter for all lines, as JSON or for the console, with context and without secrets.

Log through the standard library. Bind the context of a line (a request, a task) with `structlog.contextvars`, or pass
one of EXTRA_FIELDS as `extra=`.
"""

from __future__ import annotations

import re
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# The `extra=` fields that are added to a line.
EXTRA_FIELDS = ("task", "method", "path", "status", "seconds")
# Secrets that must not appear in a log, and their replacements.
_SECRET_PATTERNS = (
    (re.compile(r"\b(hf_|dh_|whsec_)[A-Za-z0-9+/]{8,}"), r"\1…"),
    (re.compile(r"(?i)\b(bearer|basic|token)(:?\s+)(?=\S*\d)[\w.~+/=-]{8,}"), r"\1\2…"),
    # A lookahead and a possessive quantifier don't backtrack, so each name is read at most twice.
    (
        re.compile(r"(?i)([?&](?=[\w-]*?(?:key|token|sig|signature|secret|password|credential))[\w-]++=)[^&\s\"'#]+"),
        r"\1…",
    ),
    (re.compile(r"(\w://[^:@/\s]*:)[^@/\s]+@"), r"\1…@"),
)
_process_fields: dict[str, str] = {}


def add_process_fields(**fields: str) -> None:
    """Add fields to every line that this process logs from now on."""
    _process_fields.update(fields)


def redact_secrets(text: str) -> str:
    """Return the text without tokens, passwords in URLs, and secrets in their queries."""
    for secret, instead in _SECRET_PATTERNS:
        text = secret.sub(instead, text)
    return text


def build_logging_config(*, as_json: bool) -> dict[str, Any]:
    """Return Django's LOGGING setting."""
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _PRE_CHAIN,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redact_line, renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "tasks_app": {"level": "INFO"},
            "dramatiq": {"level": "INFO"},
            # 4xx are ordinary responses, which the request log covers.
            "django": {"handlers": [], "level": "WARNING", "propagate": True},
            "django.request": {"level": "ERROR"},
            # Client errors, for example a request for an unknown host, each logged with a traceback.
            "django.security": {"level": "CRITICAL"},
            "uvicorn": {"handlers": [], "level": "INFO", "propagate": True},
            # Its lines contain queries and lack the request id: `api/http/request_id.py` logs each request.
            "uvicorn.access": {"handlers": [], "propagate": False},
        },
    }


def _merge_process_fields(logger: WrappedLogger, name: str, line: EventDict) -> EventDict:
    return {**_process_fields, **line}


def _redact_line(logger: WrappedLogger, name: str, line: EventDict) -> EventDict:
    return {key: redact_secrets(value) if isinstance(value, str) else value for key, value in line.items()}


_PRE_CHAIN: list[Processor] = [
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _merge_process_fields,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.ExtraAdder(allow=EXTRA_FIELDS),
    structlog.processors.format_exc_info,
]
