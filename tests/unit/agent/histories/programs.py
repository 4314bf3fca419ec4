"""The programs that the agent runs on files, without their processes: thousands of them a second.

What they do is asked of the real ones in ``storage``'s own tests.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pytest


def run_here(argv: Sequence[Any], **_: Any) -> subprocess.CompletedProcess[str]:
    """Do what a program would, in the place of ``subprocess.run``."""
    program, *words = map(str, argv)
    try:
        match program:
            case "rm":
                _remove(Path(words[-1]))
            case "cp":
                shutil.copytree(words[-2], words[-1], symlinks=True, dirs_exist_ok=True)
            case "tar":
                _pack(words)
            case _:
                raise AssertionError(program)
    except OSError as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))
    return subprocess.CompletedProcess(argv, 0, "", "")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pack(words: list[str]) -> None:
    options = [word.partition("=") for word in words]
    [target] = [value for name, _, value in options if name == "--file"]
    recursive = "--no-recursion" not in words
    home = Path()
    with tarfile.open(target, "w") as tar:
        for name, _, value in options:
            if name == "--directory":
                home = Path(value)
            elif name == "--files-from":
                for member in filter(None, Path(value).read_bytes().split(b"\0")):
                    path = member.decode(errors="surrogateescape")
                    tar.add(home / path, arcname=path, recursive=recursive)
            elif not name.startswith("-"):
                tar.add(home / name, arcname=name, recursive=recursive)


class Untar:
    """``tar --extract`` of its standard input, in the place of ``subprocess.Popen``."""

    def __init__(self, argv: Sequence[str], *, stderr: IO[bytes], **_: Any) -> None:
        assert argv[:2] == ["tar", "--extract"]
        [self._directory] = [w.partition("=")[2] for w in argv if w.startswith("--directory=")]
        self._complaints = stderr
        self.stdin = _Input()
        self.returncode = 0

    def __enter__(self) -> Untar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        try:
            with tarfile.open(fileobj=io.BytesIO(self.stdin.written)) as tar:
                tar.extractall(self._directory, filter="fully_trusted")
        except (tarfile.TarError, OSError) as problem:
            self._complaints.write(str(problem).encode())
            self.returncode = 2

    def kill(self) -> None:
        self.returncode = -9


class _Input(io.BytesIO):
    written = b""

    def close(self) -> None:
        self.written = self.getvalue()
        super().close()


def replace_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no processes started."""
    monkeypatch.setattr(subprocess, "run", run_here)
    monkeypatch.setattr(subprocess, "Popen", Untar)
