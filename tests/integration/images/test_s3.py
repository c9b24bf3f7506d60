"""Pictures in a bucket: a real server of S3's protocol, two workers that share no disk with each other or the web."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from moto.server import ThreadedMotoServer
from PIL import Image

from tasks_app.contracts import Claim
from tasks_app.engine.types import GeneratedImage
from tasks_app.errors import StorageError
from tasks_app.images import storage
from tasks_app.images.s3 import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, REQUEST_ATTEMPTS, BucketStorage
from tasks_app.models import Task, TaskImage, Worker
from tests.support import stack as stacks
from tests.support.acting import RECIPE, store_images
from tests.support.claims import succeed_one

pytestmark = pytest.mark.timeout(120)

BUCKET = "pictures"
MakeTask = Callable[..., Task]


def options(endpoint: str) -> dict[str, Any]:
    keys = {"access_key": "test", "secret_key": "test"}
    return {"bucket_name": BUCKET, "endpoint_url": endpoint, "region_name": "us-east-1", "location": "deep/er", **keys}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Run a server with an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    BucketStorage(**options(address)).connection.create_bucket(Bucket=BUCKET)
    yield address
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> BucketStorage:
    return BucketStorage(**options(endpoint))


@pytest.fixture
def in_bucket(endpoint: str, settings: Any) -> None:
    """Let this process keep its pictures in the bucket."""
    backend = {"BACKEND": "tasks_app.images.s3.BucketStorage", "OPTIONS": options(endpoint)}
    settings.STORAGES = {**settings.STORAGES, "default": backend}
    # The first call imports its library, for longer than a transaction may be idle on a busy machine.
    default_storage.exists("nothing")


@pytest.fixture
def silent() -> Iterator[str]:
    """Listen, and answer nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def picture(seed: int = 1) -> GeneratedImage:
    return GeneratedImage(seed=seed, image=Image.new("RGB", (8, 8), (seed, 2, 3)))


def test_what_is_saved_is_read_and_removed(bucket: BucketStorage) -> None:
    name = bucket.save(f"tasks/{uuid4()}/1-0.webp", ContentFile(b"bytes"))
    assert bucket.exists(name)
    with bucket.open(name) as file:
        assert file.read() == b"bytes"
    bucket.delete(name)
    bucket.delete(name)
    assert not bucket.exists(name)
    with pytest.raises(FileNotFoundError):
        bucket.open(name)


def test_no_file_is_written_over(bucket: BucketStorage) -> None:
    name = f"tasks/{uuid4()}/1-0.png"
    first, second = (bucket.save(name, ContentFile(content)) for content in (b"first", b"second"))
    assert first == name != second
    with bucket.open(first) as file:
        assert file.read() == b"first"


def test_a_signed_url_gives_the_file_with_its_type(bucket: BucketStorage) -> None:
    name = bucket.save(f"tasks/{uuid4()}/1-0.webp", ContentFile(b"bytes"))
    answer = httpx2.get(bucket.url(name))
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"bytes", "image/webp")


def test_threads_share_one_connection(bucket: BucketStorage) -> None:
    seen: list[Any] = []
    threads = [threading.Thread(target=lambda: seen.append(bucket.connection)) for _ in range(3)]
    bucket.exists("any")
    for thread in threads:
        thread.start()
        thread.join()
    assert len({id(one) for one in seen}) == 1


def test_a_server_that_is_away_is_an_error_of_the_storage(settings: Any) -> None:
    away = options(f"http://127.0.0.1:{stacks.free_port()}")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tasks_app.images.s3.BucketStorage", "OPTIONS": away},
    }
    with pytest.raises(StorageError):
        store_images(Claim(task_id=uuid4(), attempt=1), [picture()])
    with pytest.raises(StorageError):
        storage.read_file("any")
    with pytest.raises(StorageError):
        storage.delete_files(["any"])


def test_a_bucket_that_is_not_there_is_an_error_of_the_storage(endpoint: str) -> None:
    nowhere = BucketStorage(**{**options(endpoint), "bucket_name": "nowhere"})
    with pytest.raises(OSError, match="bucket"):
        nowhere.save("a", ContentFile(b""))


def test_a_silent_server_holds_a_call_for_seconds_only(silent: str) -> None:
    started = time.monotonic()
    with pytest.raises(OSError, match="is not responding"):
        BucketStorage(**options(silent)).open("any")
    assert (
        time.monotonic() - started < REQUEST_ATTEMPTS * (CONNECT_TIMEOUT_SECONDS + READ_TIMEOUT_SECONDS) + 10
    )  # for pauses, and a busy machine


def succeeded(claimed: MakeTask) -> TaskImage:
    task = claimed()
    claim = Claim(task_id=task.pk, attempt=1)
    assert succeed_one(claim, store_images(claim, [picture()], RECIPE))
    return TaskImage.objects.get(task=task)


def test_a_picture_that_is_gone_from_the_bucket_is_404(in_bucket: None, claimed: MakeTask, client: Client) -> None:
    image = succeeded(claimed)
    url = f"/task/{image.task_id}/images/0"
    assert client.get(url).status_code == 200
    storage.delete_files([str(image.file.name)])
    for path in (url, f"{url}/thumbnail"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_while_the_bucket_is_away_pictures_are_503(
    in_bucket: None, claimed: MakeTask, client: Client, settings: Any
) -> None:
    image = succeeded(claimed)
    away = options(f"http://127.0.0.1:{stacks.free_port()}")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tasks_app.images.s3.BucketStorage", "OPTIONS": away},
    }
    answer = client.get(f"/task/{image.task_id}/images/0")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["error"] == {
        "code": "storage_failed",
        "message": "The storage is not responding.",
        "retryable": True,
    }


def test_presigned_the_client_is_sent_to_the_bucket(
    in_bucket: None, claimed: MakeTask, client: Client, settings: Any, endpoint: str
) -> None:
    settings.S3_PRESIGNED = True
    image = succeeded(claimed)
    url = f"/task/{image.task_id}/images/0"
    answer = client.get(url)
    assert (answer.status_code, answer["Cache-Control"]) == (302, "private, max-age=150")
    assert hashlib.sha256(httpx2.get(answer["Location"]).content).hexdigest() == image.sha256
    assert client.get(url, headers={"if-none-match": f'"{image.sha256}"'}).status_code == 304
    assert client.get(f"{url}/thumbnail")["Content-Type"] == "image/webp"
    assert f"img-src 'self' data: {endpoint};" in client.get("/")["Content-Security-Policy"]
    # What the row says still counts; what the bucket has is the bucket's to say.
    storage.delete_files([str(image.file.name)])
    assert httpx2.get(client.get(url)["Location"]).status_code == 404
    TaskImage.objects.update(purged_at=image.task.created_at)
    assert client.get(url).status_code == 410


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Two workers and two web servers: one passes pictures on, one sends to the bucket."""

    proxying: httpx2.Client
    presigning: httpx2.Client
    roots: list[Path]


@pytest.fixture
def parts(transactional_db: None, endpoint: str, tmp_path: Path) -> Iterator[Parts]:
    shared = {
        "S3_BUCKET": BUCKET,
        "S3_ENDPOINT_URL": endpoint,
        "S3_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    roots = [tmp_path / name for name in ("worker-1", "worker-2", "web-1", "web-2")]
    for root in roots:
        root.mkdir()
    homes = [{"VAR_DIR": str(root / "var"), "MEDIA_ROOT": str(root / "media")} for root in roots]
    envs = [stacks.build_environment(**shared, **home) for home in homes]
    with ExitStack() as running:
        for root, env in zip(roots[:2], envs[:2], strict=True):
            env["WORKER_NAME"] = root.name
            running.enter_context(stacks.run_process(root / "log", env, "manage.py", "rundramatiq"))
        proxying, _ = running.enter_context(stacks.run_web(roots[2], envs[2]))
        presigning, _ = running.enter_context(stacks.run_web(roots[3], {**envs[3], "S3_PRESIGNED": "true"}))
        ours = Worker.objects.filter(name__in=[root.name for root in roots[:2]])
        stacks.wait_until(ours.count, lambda count: count == 2)
        yield Parts(proxying=proxying, presigning=presigning, roots=roots)


def test_two_workers_without_a_common_disk_serve_all_pictures(parts: Parts) -> None:
    params = {"provider": "fake", "model_id": "demo", "prompt": "pace 0.1", "steps": 3, "num_images": 2}
    for seed in range(8):
        body = {"task_type": "text-to-image", "params": {**params, "seed": seed, "output_format": "webp"}}
        assert parts.proxying.post("/task", json=body).status_code == 201
    tasks = stacks.wait_until(
        lambda: parts.proxying.get("/task?status=succeeded").json()["results"], lambda found: len(found) == 8
    )
    assert set(Task.objects.values_list("worker", flat=True)) == {"worker-1", "worker-2"}
    images = [image for task in tasks for image in task["images"]]
    assert len(images) == 16
    for image in images:
        path = httpx2.URL(image["url"]).path
        passed_on, sent = parts.proxying.get(path), parts.presigning.get(path)
        assert (passed_on.status_code, sent.status_code) == (200, 302)
        content = httpx2.get(sent.headers["Location"]).content
        assert hashlib.sha256(content).hexdigest() == image["sha256"]
        assert passed_on.content == content
        assert parts.proxying.get(f"{path}/thumbnail").status_code == 200
    assert not [path for root in parts.roots for path in root.rglob("*") if path.suffix == ".webp"]
    assert not default_storage.exists(f"tasks/{tasks[0]['id']}/1-0.webp")
