"""Features of the processor that a checkpoint depends on."""

from __future__ import annotations

import re

RELEVANT = frozenset(
    {
        # x86: what CRIU saves and restores of each thread (XSAVE's components).
        "amx_tile", "avx", "avx512f", "fxsr", "mpx", "pku", "user_shstk", "xsave", "xsavec",
        "xsaveopt", "xsaves",
        # x86: what programs and the C library chose their code by, up to x86-64-v4.
        "abm", "amx_bf16", "amx_int8", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512vl",
        "bmi1", "bmi2", "erms", "f16c", "fma", "movbe", "rtm", "sse4_2",
        # arm64: the same.
        "atomics", "bti", "gcs", "mte", "paca", "pacg", "sme", "sme2", "sve", "sve2",
    }
)  # fmt: skip
"""A process that uses one of these cannot go on where it is missing: it is ended by SIGILL, or CRIU
refuses to restore it. Names are those of /proc/cpuinfo."""

_FLAGS = re.compile(r"^(?:flags|Features)\s*: (.*)$", re.MULTILINE)


def cpu_features(cpuinfo: str) -> tuple[str, ...]:
    """Return the relevant features that all processors of the node have, sorted."""
    # Cores differ in some machines, and a process runs on each of them.
    each = [set(flags.split()) for flags in _FLAGS.findall(cpuinfo)]
    return tuple(sorted(RELEVANT.intersection(*each))) if each else ()
