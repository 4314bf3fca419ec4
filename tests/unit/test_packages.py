"""What no program of ours uses is not loaded, and is there for whoever shares the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tryitnow
from tryitnow.packages import load_late

UNUSED = ("rich", "requests_oauthlib", "oauthlib", "websocket")
"""What kubernetes and podman import for the parts of theirs that we do not use."""


def python(script: str) -> str:
    """Run a script in a fresh Python; return what it printed."""
    argv = [sys.executable, "-c", script]
    env = {**os.environ, "PYTHONPATH": str(Path(tryitnow.__path__[0]).parent)}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("program", ["agent", "controller"])
def test_a_program_starts_without_what_it_does_not_use(program: str) -> None:
    script = f"import sys, tryitnow.{program}.main; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in python(script).split()}
    assert loaded.isdisjoint(UNUSED)
    assert "kopf" in loaded


LATER = {
    "agent": ("cryptography", "prometheus_client.exposition", "kubernetes.aio.dynamic"),
    "controller": ("cryptography", "prometheus_client.exposition", "requests", "urllib3"),
    "cli.demo": ("prometheus_client.exposition", "requests", "urllib3", "yaml", "kopf", "podman"),
}
"""What a program loads when it has begun, or never."""


@pytest.mark.parametrize("program", LATER)
def test_a_program_is_there_before_it_loads_what_it_needs_later(program: str) -> None:
    main = program if "." in program else f"{program}.main"
    loaded = python(f"import sys, tryitnow.{main}; print(*sys.modules)").split()
    assert set(loaded).isdisjoint(LATER[program])


def test_no_program_reads_the_certificates_of_public_authorities() -> None:
    """Which takes as long as all else of aiohttp; contexts that are made later have them."""
    script = (
        "import ssl\n"
        "from tryitnow.packages import spare_start\n"
        "spare_start()\n"
        "import aiohttp.connector\n"
        "print(aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509_ca'])\n"
        "print(ssl.SSLContext.__dict__.get('set_default_verify_paths'))\n"
    )
    assert python(script) == "0\nNone"


@pytest.mark.parametrize("words", ["agent", "--help"])
def test_all_our_programs_begin_so(words: str) -> None:
    script = (
        "import os, sys\n"
        "from tryitnow.cli.main import main\n"
        "try:\n"
        f"    main([{words!r}])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(os.environ['PYDANTIC_DISABLE_PLUGINS'])\n"
    )
    assert python(script).endswith("__all__")


@pytest.mark.parametrize(
    "use",
    [
        "import kubernetes; kubernetes.client.CoreV1Api",
        "import kubernetes; print(kubernetes.__version__)",
        "from kubernetes import config; config.load_kube_config",
        "import podman; podman.PodmanClient",
        "from podman import PodmanClient, __version__",
        "from kubernetes import *; client.CoreV1Api",
    ],
)
def test_a_program_that_asks_for_demos_can_use_all_of_it(use: str) -> None:
    """Our client is a library in the processes of others."""
    python(f"import tryitnow.kubernetes.client, tryitnow.podman.client; {use}")


def test_a_name_that_a_package_does_not_have_is_an_error() -> None:
    script = "import tryitnow.kubernetes, kubernetes; print(hasattr(kubernetes, 'nothing'))"
    assert python(script) == "False"


def test_a_package_that_is_not_there_is_left_to_whoever_imports_it() -> None:
    load_late("there_is_no_such_package")
    assert "there_is_no_such_package" not in sys.modules
