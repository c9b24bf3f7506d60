"""PostgreSQL and Redis of the suite's own, which may be killed and started again on the same data and sockets."""

import shutil
import signal
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import redis
from psycopg.rows import dict_row

from project.embedded import DATABASE, _initialise, _postgres_home, _socket_directory, _valkey_program
from tests.chaos.processes import Child, send
from tests.stack import until

RESTART_PATIENCE_SECONDS = 60.0


class Server:
    """A server that one signal ends and `start` brings back."""

    def __init__(self, log: Path, user: int | None) -> None:
        self.sockets = _socket_directory(user)
        self.log = log
        self.user = user
        self.child: Child | None = None

    def command(self) -> list[str | Path]:
        """Return the command line."""
        raise NotImplementedError

    def probe(self) -> bool:
        """Return whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers."""

        def up() -> bool:
            if self.child is None or self.child.poll() is not None:
                with self.log.open("ab") as log:
                    self.child = Child(self.command(), user=self.user, stop_signal=signal.SIGINT, output=log)
            return self.probe()

        until(up, bool, patience=RESTART_PATIENCE_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server's main process."""
        child = self.child
        assert child is not None
        pid = until(lambda: child.command, bool)
        assert pid is not None
        send(pid, number)

    def end(self, number: signal.Signals) -> None:
        """End it by a signal and wait until it is gone."""
        assert self.child is not None
        self.send(number)
        until(self.child.poll, lambda status: status is not None, patience=RESTART_PATIENCE_SECONDS)

    def close(self) -> None:
        """Stop it for good."""
        if self.child is not None:
            if self.child.poll() is None:
                self.send(signal.SIGCONT)
            self.child.stop()
        shutil.rmtree(self.sockets, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL on its Unix socket alone."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.home = _postgres_home(directory)
        _initialise(self.home)
        super().__init__(log, self.home.user)
        self.socket = self.sockets / ".s.PGSQL.5432"

    def command(self) -> list[str | Path]:
        return [self.home.programs / "postgres", "-D", self.home.data, "-k", self.sockets, "-c", "listen_addresses="]

    def probe(self) -> bool:
        try:
            with psycopg.connect(**self.address("postgres"), autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def address(self, database: str = DATABASE) -> dict[str, Any]:
        """Return what psycopg needs to connect past the proxy."""
        return {"host": str(self.sockets), "user": "postgres", "dbname": database, "application_name": "suite"}

    def rows(self, sql: LiteralString, parameters: Any = ()) -> list[dict[str, Any]]:
        """Run one statement on a connection of its own and return its rows; waits while the server is away."""

        def attempt() -> list[dict[str, Any]] | None:
            try:
                with psycopg.connect(**self.address(), autocommit=True, row_factory=dict_row) as connection:
                    done = connection.execute(sql, parameters or None)
                    return done.fetchall() if done.description else []
            except psycopg.OperationalError:
                return None

        found = until(attempt, lambda rows: rows is not None, patience=RESTART_PATIENCE_SECONDS)
        assert found is not None
        return found

    def restart(self, number: signal.Signals) -> None:
        """End it by SIGQUIT (immediate) or SIGINT (fast), and start it again."""
        self.end(number)
        self.start()


class Redis(Server):
    """A Redis-protocol server that keeps nothing on disk."""

    def __init__(self, directory: Path, log: Path) -> None:
        super().__init__(log, None)
        self.directory = directory
        self.socket = self.sockets / "redis.sock"
        self.client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)

    def command(self) -> list[str | Path]:
        options = {"port": "0", "unixsocket": self.socket, "dir": self.directory, "save": "", "appendonly": "no"}
        return [_valkey_program(), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]

    def probe(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        self.client.close()
        super().close()
