"""nftables by its own library (``libnftables(3)``), for the network namespace of the thread.

A program of its own would take 20 to 40 ms on a busy node, most of it to begin; the change takes 2.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

_LIBRARY = "libnftables.so.1"


class NftablesError(Exception):
    """nftables is missing, or refused; the message says what was wrong."""


class Nftables:
    """Runs scripts of nftables. All methods block."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        """The library does not promise to be used by several threads at once."""

        self._library: Any = None

    def run(self, script: str) -> str:
        """Run a script as one transaction, in the thread's network namespace; return its output.

        Raises:
            NftablesError: it is missing, or refused; then nothing has changed.

        """
        with self._one_at_a_time:
            library = self._loaded()
            context = library.nft_ctx_new(0)
            if not context:
                msg = "the kernel gives no access to nftables"
                raise NftablesError(msg)
            try:
                return _run(library, context, script)
            finally:
                library.nft_ctx_free(context)

    def _loaded(self) -> Any:  # noqa: ANN401
        if self._library is None:
            try:
                library = ctypes.CDLL(_LIBRARY, use_errno=True)
            except OSError as error:
                msg = f"{error}; install nftables"
                raise NftablesError(msg) from error
            context, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
            for name, result, arguments in (
                ("nft_ctx_new", context, (ctypes.c_uint32,)),
                ("nft_ctx_free", None, (context,)),
                ("nft_ctx_buffer_output", number, (context,)),
                ("nft_ctx_buffer_error", number, (context,)),
                ("nft_ctx_get_output_buffer", text, (context,)),
                ("nft_ctx_get_error_buffer", text, (context,)),
                ("nft_run_cmd_from_buffer", number, (context, text)),
            ):
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
            self._library = library
        return self._library


def _run(library: Any, context: int, script: str) -> str:  # noqa: ANN401
    if library.nft_ctx_buffer_output(context) or library.nft_ctx_buffer_error(context):
        msg = "there is no memory for what nftables says"
        raise NftablesError(msg)
    failed = library.nft_run_cmd_from_buffer(context, script.encode())
    if failed:
        complaint: bytes = library.nft_ctx_get_error_buffer(context) or b""
        raise NftablesError(complaint.decode(errors="replace").strip())
    output: bytes = library.nft_ctx_get_output_buffer(context) or b""
    return output.decode(errors="replace")
