"""Features of a processor that decide where a checkpoint can be restored; names as in cpuinfo.

A process keeps the features that it found when it began: the C library chose its functions by
them, and CRIU saved the registers that they have. Where one is missing, the process is ended by
SIGILL, or CRIU refuses to restore it.
"""

from __future__ import annotations

from collections.abc import Iterable

NEEDED = frozenset(
    {
        # x86: registers that CRIU saves and restores (XSAVE's components), and the instruction that
        # the dynamic linker saves them by.
        "avx", "avx512f", "fxsr", "xsave", "xsavec",
        # x86: what programs and the C library choose their code by, up to x86-64-v4.
        "abm", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "bmi1", "bmi2", "f16c",
        "fma", "movbe", "rtm", "sse4_2",
        # arm64: the same.
        "atomics", "paca", "pacg", "sme", "sme2", "sve", "sve2",
    }
)  # fmt: skip
"""A process may use these without asking anybody: no checkpoint goes where one is missing."""

ON_REQUEST = frozenset(
    {
        # A process asks the kernel for them (arch_prctl, prctl, pkey_alloc) before it uses them.
        "amx_bf16", "amx_int8", "amx_tile", "gcs", "mpx", "mte", "pku", "user_shstk",
        # The kernel's own, or without effect where they are missing.
        "bti", "erms", "xsaveopt", "xsaves",
    }
)  # fmt: skip
"""Few processes use these. Where one is missing, the test restore on the node decides."""

RELEVANT = NEEDED | ON_REQUEST

_NAMED = 8
"""Features named in a message: another kind of processor may lack twenty."""


def missing_features(checkpoint: Iterable[str], node: Iterable[str]) -> tuple[str, ...]:
    """Return the features that a checkpoint may use and a node lacks, sorted.

    None where the features of one of them are not known: the test restore decides then.
    """
    made_with, has = frozenset(checkpoint), frozenset(node)
    if not made_with or not has:
        return ()
    return tuple(sorted((made_with - has) & NEEDED))


def named(features: tuple[str, ...]) -> str:
    """Return features as a message has them."""
    shown, more = ", ".join(features[:_NAMED]), len(features) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
