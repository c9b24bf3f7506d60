"""A child process that ends when its parent ends, even if the parent is killed with SIGKILL.

A small process, this file run as `watchdog.py … -- COMMAND`, sits between the two. It starts the command, reads its own
standard input, which is a pipe held by the parent, and stops the command when that pipe is closed.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any


class WatchedProcess:
    """Command that runs no longer than this process."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10,
        user: int | None = None,
        remove: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        output: IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the command.

        `grace` is in seconds: after it the whole process group is killed. The paths in `remove` are deleted once the
        command has exited for any reason. The keeper holds the descriptors in `pass_fds` open until then.
        """
        self.grace = grace
        arguments = [f"--signal={stop_signal.value}", f"--grace={grace}"]
        arguments += [f"--user={user}"] if user is not None else []
        arguments += [f"--remove={path}" for path in remove]
        # By path and isolated, so that working directory, environment and site packages have no influence.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, *arguments, "--", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """Return the command's exit status, or None while it runs."""
        return self._process.poll()

    def request_stop(self) -> None:
        """Make the keeper stop the command, without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self) -> int:
        """Stop the command and return its exit status."""
        self.request_stop()
        return self._process.wait(timeout=self.grace + 10)


def _stop_on_stdin_eof(child: subprocess.Popen[bytes], stop_signal: int, grace: float) -> None:
    # Don't read through sys.stdin: its lock, held by this thread, would abort the interpreter at exit.
    while os.read(0, 1024):
        pass
    child.send_signal(stop_signal)
    try:
        child.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)


def get_user_options(uid: int | None) -> dict[str, Any]:
    """Return the `subprocess` options that run a command as this user, without any supplementary groups."""
    if uid is None:
        return {}
    return {"user": uid, "group": pwd.getpwuid(uid).pw_gid, "extra_groups": []}


def _parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--remove", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the keeper process: start the command, wait for it, and return its exit status."""
    options = _parse_arguments(argv)
    child = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        **get_user_options(options.user),
    )
    threading.Thread(target=_stop_on_stdin_eof, args=(child, options.signal, options.grace), daemon=True).start()
    status = child.wait()
    for path in options.remove:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
