"""Requests that are malformed before any field is validated: invalid JSON, headers, paths, queries, methods."""

import gzip
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from hypothesis import strategies as st

from tests.fuzz.bodies import valid_bodies
from tests.fuzz.checks import Case
from tests.fuzz.values import NAMES, TEXTS, encode_json, json_values

JSON = {"content-type": "application/json"}
BODY = frozenset({""})
VALID = b'{"task_type":"text-to-image","params":{"prompt":"x"}}'
DEPTHS = [1, 50, 300, 500, 900, 950, 990, 995, 1000, 1010, 3000, 20_000, 100_000]
CONSTANTS = [b"NaN", b"Infinity", b"-Infinity", b"9" * 5000, b"-" + b"9" * 5000]
NO_JSON = [b" ", b"{", b"}", b'{"', b"{'a':1}", b"{a:1}", b'{"a":1,}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b"\0"]
NO_JSON += [b'{"a":1}{', b"\xff\xfe", b"\xef\xbb\xbf" + VALID, b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\\u12"}', b"nul"]
ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "cp037"]
TYPES = ["", "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
TYPES += [
    "multipart/form-data",
    "application/json2",
    "json",
    "*/*",
    "application/*",
    ";",
    "application/json/json",
    "a" * 300,
]
CHARSETS = ["utf-16", "latin-1", "hex", "base64", "idna", "zip", "rot13", "../x", "é", "", '"', "undefined", "x" * 300]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "FOO"]
ACCEPTS = ["", "*/*", "text/html", "image/png", "application/json;q=0", "a/b;q=x", ";;;", "application/json; indent=4"]
ACCEPTS += [
    "application/json; indent=99999999999",
    "application/json; indent=x",
    "*",
    "/",
    ",",
    "a/b," * 2000,
    "x" * 20_000,
]
ACCEPTS += ["application/json; indent=-1", "é/é"]
# RFC 2231: encoded and numbered parameters.
ENCODED = [
    "x*=none'en'%41",
    "charset*=none'en'%41",
    "x*=undefined''%41",
    "x*=idna''%ff",
    "x*=utf-8''%ff",
    "x*0*=a; x*2=b",
]
ENCODED += ["x*" + "9" * 5000 + "*=a", "x*='", "x*='''", "charset*=utf-8''utf-8"]
ETAGS = ["*", "W/", '"', '""', '"ab"', 'W/"ab", "cd"', "ab", "\\", '"é"', ", ," * 50, '"' + "x" * 9000 + '"']
DATES = ["", "now", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 9999 99:99:99 GMT", "Thu, 31 Feb 2020 00:00:00 GMT"]
HEADERS = {
    "accept": [*ACCEPTS, *(f"application/json; {name}" for name in ENCODED)],
    "if-none-match": ETAGS,
    "if-match": ETAGS,
    "if-modified-since": DATES,
    "if-unmodified-since": DATES,
    "range": ["bytes=0-0", "bytes=9-1", "bytes=-", "x", "bytes=" + "0-1," * 500],
    "cookie": ["sessionid=x", "csrftoken=" + "x" * 5000, ";;;=", "a=é", '"\\000"', "sessionid=\x7f"],
    "authorization": ["Bearer x", "Basic é", "Token", "Basic !!!!", ""],
    "host": ["example.org", "localhost:99999999", "[::1]", "[", "127.0.0.1:x", "127.0.0.1.", "é", "a b", "localhost,b"],
    "x-http-method-override": ["DELETE"],
    "x-forwarded-host": ["example.org"],
    "accept-language": ["xx", "x" * 5000, "en;q=x", "\\"],
    "content-encoding": ["gzip", "br", "x"],
    "content-type": [
        *TYPES,
        *(f"application/json; charset={name}" for name in CHARSETS),
        *(f"application/json; {name}" for name in ENCODED),
    ],
}
header = st.sampled_from(sorted(HEADERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(HEADERS[name]).map(lambda text: text.encode()))
)


def nested_json(depth: int, kind: str) -> bytes:
    """Return JSON of this depth: as the whole body, as the parameters, or as one of their fields."""
    opening, closing = (b'{"a":', b"}") if kind.endswith("objects") else (b"[", b"]")
    inner = opening * depth + b"1" + closing * depth
    if kind.startswith("field"):
        return b'{"task_type":"text-to-image","params":{"prompt":' + inner + b"}}"
    return inner if kind.startswith("whole") else b'{"task_type":"text-to-image","params":' + inner + b"}"


KINDS = ["whole lists", "whole objects", "params lists", "params objects", "field lists", "field objects"]
deep = st.builds(nested_json, st.sampled_from(DEPTHS), st.sampled_from(KINDS)).map(
    lambda content: Case(content=content, status=400 if len(content) <= 256 * 1024 else 413)
)


@st.composite
def duplicate_keys(draw: st.DrawFn) -> Case:
    """Return a valid body in which one key occurs twice, at the top or within the parameters."""
    content = encode_json(draw(valid_bodies()))
    name = draw(st.sampled_from([b"task_type", b"params"]))
    again = b'"%s":%s,' % (name, encode_json(draw(json_values.filter(lambda value: value == value))))
    if draw(st.booleans()):
        return Case(content=content.replace(b"{", b"{" + again, 1), status=400, bad=BODY)
    twice = b'"prompt":"again","prompt":"and again",'
    return Case(content=content.replace(b'"params": {', b'"params": {' + twice, 1), status=400, bad=BODY)


constant = st.builds(
    lambda field, value: Case(
        content=b'{"task_type":"text-to-image","params":{"prompt":"x","%s":%s}}' % (field, value), status=400, bad=BODY
    ),
    st.sampled_from([b"steps", b"guidance_scale", b"seed", b"width", b"unknown"]),
    st.sampled_from(CONSTANTS),
)
no_json = st.one_of(
    st.sampled_from(NO_JSON),
    st.binary(max_size=200).map(lambda content: b"\xff" + content),
    st.integers(1, len(VALID) - 1).map(lambda length: VALID[:length]),
    st.sampled_from(ENCODINGS).map(lambda name: VALID.decode().encode(name)),
    st.just(gzip.compress(VALID, mtime=0)),
).map(lambda content: Case(content=content, status=400, bad=BODY))
any_json = json_values.map(lambda value: Case(content=encode_json(value), status=400))
garbage = st.binary(max_size=400).map(lambda content: Case(content=content, status=400))
large = st.builds(
    lambda size, filling, chunked: Case(content=filling * size, chunked=chunked, status=413),
    st.sampled_from([256 * 1024 + 1, 1_000_000, 10_000_000]),
    st.sampled_from([b"x", b" ", b"[", b"\xff", b"\0"]),
    st.booleans(),
)
many = st.builds(
    lambda count, where: Case(content=_many_fields(count, where), status=400),
    st.sampled_from([100, 5000, 15_000]),
    st.sampled_from(["top", "params"]),
)


def _many_fields(count: int, where: str) -> bytes:
    fields: dict[str, Any] = {f"f{number}": 1 for number in range(count)}
    return encode_json(fields if where == "top" else {"task_type": "text-to-image", "params": fields})


# An empty body is not parsed, whatever its type; a wildcard type counts as JSON.
other_types = st.builds(
    lambda kind, content: Case(headers={"content-type": kind}, content=content, status=415 if content else 400),
    st.sampled_from([name for name in TYPES if name and "*" not in name]),
    st.sampled_from([VALID, b"", b"\xff", b"a=b", b"--x\r\n\r\n"]),
)
odd_headers = st.builds(
    lambda headers, method: Case(
        method=method, headers={**JSON, **dict(headers)}, content=VALID if method == "POST" else None
    ),
    st.lists(header, min_size=1, max_size=3),
    st.sampled_from(["POST", "GET"]),
)

CURSORS = ["garbage", "é", "=", "x" * 9000, "cD0yMDIw", "cD0lMDA=", "cj0xJnA9eA=="]
POSITIONS = [
    "2020-01-01",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2020-02-30",
    "\0",
    "x",
    "20200101T00",
]
LIMITS = ["0", "1", "-1", "100", "101", "x", "", "9" * 5000, "1.0", "٣", "\0", "1 "]
STATUSES = ["queued", "lost", "QUEUED", "\0", "queued ", *TEXTS]
cursor = st.one_of(
    st.sampled_from(CURSORS),
    st.builds(
        lambda position, offset, reverse: b64encode(urlencode({"p": position, "o": offset, "r": reverse}).encode()),
        st.one_of(st.sampled_from(POSITIONS), st.datetimes().map(str)),
        st.sampled_from(["0", "1", "-1", "9" * 30, "x"]),
        st.sampled_from(["0", "1", "x"]),
    ).map(bytes.decode),
)
query = st.one_of(
    st.lists(
        st.one_of(
            st.tuples(st.just("cursor"), cursor),
            st.tuples(st.just("limit"), st.sampled_from(LIMITS)),
            st.tuples(st.just("status"), st.sampled_from(STATUSES)),
            st.tuples(st.just("model_id"), st.sampled_from([*TEXTS, "demo", "\0", "../x", "x" * 9000])),
            st.tuples(st.just("format"), st.sampled_from(["json", "xml", "api", "\0", ""])),
            st.tuples(st.sampled_from(NAMES[:12]), st.sampled_from(TEXTS)),
        ),
        max_size=4,
    ).map(lambda pairs: urlencode(pairs, errors="replace")[:40_000]),
    st.sampled_from(
        ["%", "%zz", "%ff", "&&&", "=", "limit", "limit[]=1", "a=b;c=d", "a=1&" * 1500, "limit=1&x=%ed%a0%80"]
    ),
)
queries = st.builds(
    lambda method, query: Case(method=method, path=f"/task?{query}", headers={}),
    st.sampled_from(["GET", "GET", "GET", "HEAD", "OPTIONS"]),
    query,
)

INDEXES = ["0", "1", "999", "1000", "-1", "00", "٣", "x", "0x1", "0.0", "9" * 300, "%00", "%0a", "..", "0%2f"]
IDS = ["not-an-id", "%00", "%ff", "0" * 32, "..", "{}", "x" * 3000, "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "é", "%0a"]
TAILS = ["", "/", "//", "%0a", "/cancel", "/cancel/", "/images", "/images/", "/events", "/nothing", "/..", "/%2e%2e/"]
ELSEWHERE = ["/", "//", "/healthz", "/healthz/", "/readyz", "/TASK", "/task%2f", "/task/%00", "/%ff", "/static/../x"]
ELSEWHERE += [
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/media/x",
    "/..",
    "/admin/%00",
    "/admin/login/?next=//x",
    "/admin/nothing",
]
ELSEWHERE += ["/.env", "/task.json", "/task;x", "/task%3fx", "/task/" + "x" * 9000, "/ｔａｓｋ", "/favicon.ico"]


def path_cases(ids: list[UUID]) -> st.SearchStrategy[Case]:
    """Return a strategy for requests with paths around these tasks."""
    known = [form for task_id in map(str, ids) for form in (task_id, task_id.upper())]
    tails = [*TAILS, *(f"/images/{index}" for index in INDEXES)]
    inside = st.builds(lambda name, tail: f"/task/{name}{tail}", st.sampled_from(known + IDS), st.sampled_from(tails))
    anywhere = st.text(max_size=30).map(lambda text: "/" + quote(text, errors="replace"))
    return st.builds(
        lambda method, path, headers: Case(method=method, path=path, headers={**JSON, **dict(headers)}),
        st.sampled_from(METHODS),
        st.one_of(inside, inside, st.sampled_from(ELSEWHERE), anywhere),
        st.lists(header.filter(lambda pair: pair[0] != "content-type"), max_size=2),
    )


odd_bodies = st.one_of(deep, duplicate_keys(), constant, no_json, any_json, garbage, many)
