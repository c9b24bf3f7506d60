"""A Hub on the loopback interface: the endpoints of the real one that a download uses, over a folder of files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(models: dict[str, Path]) -> Iterator["Hub"]:
    """Serve these folders as models with those ids."""
    hub = Hub(models)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class Hub(ThreadingHTTPServer):
    def __init__(self, models: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.downloads: list[str] = []
        # A test may hold back the weights to inspect a download half-way.
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/models/"):
            return self._api(path.removeprefix("api/models/"))
        for model_id, folder in self.server.models.items():
            prefix = f"{model_id}/resolve/{COMMIT}/"
            if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                return self._file(folder, path.removeprefix(prefix), body=body)
        return self._missing()

    def _api(self, path: str) -> None:
        model_id = "/".join(path.split("/")[:2])
        folder = self.server.models.get(model_id)
        if folder is None:
            return self._missing()
        files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
        if "/tree/" in path:
            return self._json(
                [{"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": "0"} for name in files]
            )
        siblings = [{"rfilename": name, "size": (folder / name).stat().st_size} for name in files]
        return self._json({"id": model_id, "sha": COMMIT, "siblings": siblings})

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, folder: Path, name: str, *, body: bool) -> None:
        content = (folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.server.downloads.append(name)
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            if name.endswith(".safetensors"):
                self.server.gate.wait(30)
            self.wfile.write(content[half:])

    def _missing(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
