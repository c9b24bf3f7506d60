"""The suite's own PostgreSQL and Redis, which can be killed and restarted on the same data and sockets."""

import shutil
import signal
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import redis
from psycopg.rows import dict_row

from project.embedded.servers import (
    DATABASE_NAME,
    _create_socket_directory,
    _find_postgres_home,
    _find_valkey_program,
    _init_data_directory,
)
from tests.chaos.processes import Child, send_signal
from tests.support.stack import wait_until

RESTART_TIMEOUT_SECONDS = 60.0


class Server:
    """A server that a signal stops and `start` restarts."""

    def __init__(self, log: Path, user: int | None) -> None:
        self.sockets = _create_socket_directory(user)
        self.log = log
        self.user = user
        self.child: Child | None = None

    def build_command(self) -> list[str | Path]:
        """Return the command line."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether the server accepts requests."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it is ready."""

        def up() -> bool:
            if self.child is None or self.child.poll() is not None:
                with self.log.open("ab") as log:
                    self.child = Child(self.build_command(), user=self.user, stop_signal=signal.SIGINT, output=log)
            return self.is_ready()

        wait_until(up, bool, patience=RESTART_TIMEOUT_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's main process."""
        child = self.child
        assert child is not None
        pid = wait_until(lambda: child.command, bool)
        assert pid is not None
        send_signal(pid, number)

    def stop_by_signal(self, number: signal.Signals) -> None:
        """Stop the server with a signal and wait until it has exited."""
        assert self.child is not None
        self.send_signal(number)
        wait_until(self.child.poll, lambda status: status is not None, patience=RESTART_TIMEOUT_SECONDS)

    def close(self) -> None:
        """Stop the server permanently."""
        if self.child is not None:
            if self.child.poll() is None:
                self.send_signal(signal.SIGCONT)
            self.child.stop()
        shutil.rmtree(self.sockets, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL that listens only on its Unix socket."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.home = _find_postgres_home(directory)
        _init_data_directory(self.home)
        super().__init__(log, self.home.user)
        self.socket = self.sockets / ".s.PGSQL.5432"

    def build_command(self) -> list[str | Path]:
        return [self.home.programs / "postgres", "-D", self.home.data, "-k", self.sockets, "-c", "listen_addresses="]

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(**self.connection_options("postgres"), autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]).fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE_NAME}")
        except psycopg.OperationalError:
            return False
        return True

    def connection_options(self, database: str = DATABASE_NAME) -> dict[str, Any]:
        """Return psycopg's options for a connection that bypasses the proxy."""
        return {"host": str(self.sockets), "user": "postgres", "dbname": database, "application_name": "suite"}

    def fetch_rows(self, sql: LiteralString, parameters: Any = ()) -> list[dict[str, Any]]:
        """Run one statement on a new connection and return its rows; retry while the server is down."""

        def attempt() -> list[dict[str, Any]] | None:
            try:
                with psycopg.connect(**self.connection_options(), autocommit=True, row_factory=dict_row) as connection:
                    done = connection.execute(sql, parameters or None)
                    return done.fetchall() if done.description else []
            except psycopg.OperationalError:
                return None

        found = wait_until(attempt, lambda rows: rows is not None, patience=RESTART_TIMEOUT_SECONDS)
        assert found is not None
        return found

    def restart(self, number: signal.Signals) -> None:
        """Stop the server with SIGQUIT (immediate) or SIGINT (fast), and start it again."""
        self.stop_by_signal(number)
        self.start()


class Redis(Server):
    """A Redis-protocol server without persistence."""

    def __init__(self, directory: Path, log: Path) -> None:
        super().__init__(log, None)
        self.directory = directory
        self.socket = self.sockets / "redis.sock"
        self.client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)

    def build_command(self) -> list[str | Path]:
        options = {"port": "0", "unixsocket": self.socket, "dir": self.directory, "save": "", "appendonly": "no"}
        return [
            _find_valkey_program(),
            *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
        ]

    def is_ready(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        self.client.close()
        super().close()
