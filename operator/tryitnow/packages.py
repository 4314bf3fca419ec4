"""Packages of others of which we use a part, and whose own ``__init__`` imports all of it.

``import kubernetes.aio`` runs ``kubernetes/__init__.py``, which imports the synchronous client with
all that it needs: with ``podman``, 217 modules and 6 MB of an agent.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import ssl
import sys


def load_late(package: str) -> None:
    """Run a package's own ``__init__`` only when somebody asks for a name of it.

    Its modules can be imported meanwhile. Fine when it is loaded already, or is not there.
    """
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def load(name: str) -> object:
        if importlib.util.find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, name)

    module.__dict__["__getattr__"] = load
    sys.modules[package] = module


def spare_start() -> None:
    """Leave out what libraries do at their import and our programs do not need.

    Only for programs of ours: a process of somebody else's may need it.
    """
    # Else pydantic reads the metadata of each installed package for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    _import_without_authorities("aiohttp.connector")


def _import_without_authorities(module: str) -> None:
    """Import a module that makes TLS contexts at its import, without public authorities in them.

    Reading the node's 150 certificates, twice, takes as long as all else of aiohttp. Our requests
    bring contexts of their own; whoever forgot that would trust nobody.
    """
    ssl.SSLContext.set_default_verify_paths = _nothing  # type: ignore[assignment, method-assign]
    try:
        importlib.import_module(module)
    finally:
        del ssl.SSLContext.set_default_verify_paths  # what it inherits is there again


def _nothing(_: ssl.SSLContext) -> None:
    """Stand in for what reads the certificates."""
