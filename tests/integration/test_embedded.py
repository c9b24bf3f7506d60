"""The embedded servers: started for one command, gone when it ends by whatever cause, their data kept."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from project.embedded import servers as embedded_servers
from project.embedded.watchdog import WatchedProcess

ROOT = Path(__file__).resolve().parents[2]
# Starts the servers of the directory, says so, and waits.
PROGRAM = """
import sys, signal
from pathlib import Path
from project.embedded import servers
with servers.run_services(Path(sys.argv[1])):
    print("started", flush=True)
    signal.pause()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into another user's folders")


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every user can reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="dh-embedded-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def another_process(directory: Path, root: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()
        wait_until_free(directory)


def urls(directory: Path) -> tuple[str, str]:
    services = embedded_servers.find_running_services(directory)
    assert services is not None
    assert services.database_url is not None
    assert services.redis_url is not None
    return services.database_url, services.redis_url


def socket_folders(database_url: str, redis_url: str) -> list[Path]:
    postgres = str(psycopg.conninfo.conninfo_to_dict(database_url)["host"])
    return [Path(postgres), Path(redis_url.removeprefix("unix://")).parent]


def server_pids(directory: Path, database_url: str, redis_url: str) -> list[int]:
    with psycopg.connect(database_url) as connection:
        data = Path(connection.execute("SHOW data_directory").fetchone()[0])  # type: ignore[index]
    postgres = int((data / "postmaster.pid").read_text().splitlines()[0])
    return [postgres, int(redis.Redis.from_url(redis_url).info("server")["process_id"])]


def keepers_of(pids: list[int]) -> list[int]:
    return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_free(directory: Path) -> None:
    """Wait for the lock, which the keepers hold until both servers have ended."""
    with open(directory / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_both_servers_answer_and_keep_their_data_between_runs(place: Path) -> None:
    with embedded_servers.run_services(place) as services:
        assert services == embedded_servers.find_running_services(place)
        database_url, redis_url = urls(place)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        redis.Redis.from_url(redis_url).set("kept", "yes")
        sockets = socket_folders(database_url, redis_url)
    assert embedded_servers.find_running_services(place) is None
    assert not any(folder.exists() for folder in sockets)
    with embedded_servers.run_services(place):
        database_url, redis_url = urls(place)
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert redis.Redis.from_url(redis_url).get("kept") == b"yes"


def test_it_is_postgresql_18_on_unix_sockets_only(place: Path) -> None:
    with embedded_servers.run_services(place, valkey=False) as services:
        assert services.redis_url is None
        assert services.database_url is not None
        with psycopg.connect(services.database_url) as connection:
            assert connection.info.server_version // 10_000 == 18
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_sockets_belong_to_nobody_else(place: Path) -> None:
    with embedded_servers.run_services(place):
        for folder in socket_folders(*urls(place)):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_run_in_the_same_directory_is_refused_in_words(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_servers, "LOCK_TIMEOUT_SECONDS", 0.1)
    with (
        another_process(place),
        pytest.raises(embedded_servers.EmbeddedError, match="Another command already runs"),
        embedded_servers.run_services(place),
    ):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_the_servers_end_with_the_command_that_started_them(place: Path, how: signal.Signals) -> None:
    with another_process(place) as process:
        addresses = urls(place)
        pids = server_pids(place, *addresses)
        assert all(alive(pid) for pid in pids)
        process.send_signal(how)
        process.wait(timeout=20)
        wait_until_free(place)
        assert not any(alive(pid) for pid in pids)
        assert not any(folder.exists() for folder in socket_folders(*addresses))
        assert not (place / "run.json").exists()


def test_leftovers_of_killed_keepers_are_cleaned_up(place: Path) -> None:
    with another_process(place) as process:
        addresses = urls(place)
        pids = server_pids(place, *addresses)
        for keeper in keepers_of(pids):
            os.kill(keeper, signal.SIGKILL)
        process.kill()
        process.wait()
    assert all(alive(pid) for pid in pids)
    assert json.loads((place / "run.json").read_text())
    with embedded_servers.run_services(place):
        assert not any(alive(pid) for pid in pids)
        assert not any(folder.exists() for folder in socket_folders(*addresses))
        assert urls(place) != addresses


def test_an_interrupted_first_start_leaves_nothing_half_made(place: Path) -> None:
    (place / "postgres.draft").mkdir()
    (place / "postgres.draft" / "PG_VERSION").write_text("18")
    with embedded_servers.run_services(place, valkey=False) as services:
        assert services.database_url is not None
        psycopg.connect(services.database_url).close()


def test_a_server_that_does_not_start_is_told_with_its_log(place: Path) -> None:
    with embedded_servers.run_services(place, valkey=False):
        pass
    (place / "postgres" / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(embedded_servers.EmbeddedError, match="incompatible"),
        embedded_servers.run_services(place, valkey=False),
    ):
        pass
    assert embedded_servers.find_running_services(place) is None


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=oct)
def test_as_root_it_runs_from_checkouts_that_others_can_and_cannot_reach(place: Path, mode: int) -> None:
    checkout = place / "parent" / "checkout"
    checkout.mkdir(parents=True)
    shutil.copytree(ROOT / "project", checkout / "project", ignore=shutil.ignore_patterns("__pycache__"))
    package = Path(embedded_servers._find_postgres_package())
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, checkout / folder.name, ignore=shutil.ignore_patterns("pginstall", "__pycache__"))
    checkout.parent.chmod(mode)
    try:
        for _ in range(2):
            with another_process(checkout / "var", root=checkout):
                with psycopg.connect(urls(checkout / "var")[0]) as connection:
                    connection.execute("CREATE TABLE IF NOT EXISTS kept ()")
                assert (checkout / "var" / "postgres").exists() == (mode == 0o755)
        assert stat.S_IMODE(checkout.parent.stat().st_mode) == mode
    finally:
        for outside in (checkout / "var", checkout / package.name):
            for folder in Path("/var/tmp").glob(f"diffusers-handler-*/*-{embedded_servers._hash_path(outside)}*"):
                shutil.rmtree(folder)


@pytest.mark.parametrize("command", ["signal", "end"])
def test_nothing_is_left_of_a_kept_command(place: Path, command: str) -> None:
    removed = place / "removed"
    removed.mkdir()
    kept = WatchedProcess(["sleep", "100"] if command == "signal" else ["false"], remove=[removed])
    status = kept.stop() if command == "signal" else kept._process.wait()
    assert status == (128 + signal.SIGTERM if command == "signal" else 1)
    assert not removed.exists()


def test_a_command_that_ignores_its_signal_is_killed_after_the_grace() -> None:
    stubborn = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""
    read, write = os.pipe()
    with os.fdopen(read) as ready, os.fdopen(write, "wb") as output:
        kept = WatchedProcess([sys.executable, "-c", stubborn], grace=0.2, output=output)
        assert ready.readline() == "ready\n"
        assert kept.stop() == 128 + signal.SIGKILL
