"""Where a checkpoint can be restored, by the features of processors."""

from __future__ import annotations

import pytest

from tryitnow.api.archive import Versions
from tryitnow.api.processor import NEEDED, ON_REQUEST, missing_features, named

NEHALEM = ("fxsr", "sse4_2")
SKYLAKE = ("avx", "avx2", "bmi1", "erms", "fxsr", "pku", "sse4_2", "xsave", "xsavec")


def test_what_a_process_may_use_must_be_there() -> None:
    assert missing_features(SKYLAKE, NEHALEM) == ("avx", "avx2", "bmi1", "xsave", "xsavec")


def test_a_newer_processor_lacks_nothing() -> None:
    assert missing_features(NEHALEM, SKYLAKE) == ()


def test_what_a_process_has_to_ask_for_is_left_to_the_test_restore() -> None:
    assert missing_features(("fxsr", "pku", "user_shstk"), ("fxsr",)) == ()
    assert not NEEDED & ON_REQUEST


@pytest.mark.parametrize(("checkpoint", "node"), [((), SKYLAKE), (SKYLAKE, ()), ((), ())])
def test_what_is_not_known_refuses_nothing(
    checkpoint: tuple[str, ...], node: tuple[str, ...]
) -> None:
    """Of an archive that an older version made, or on a node that has not reported."""
    assert missing_features(checkpoint, node) == ()


def test_a_message_names_the_features_and_stays_short() -> None:
    assert named(("avx", "xsave")) == "avx, xsave"
    assert named(tuple("abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more"


def test_other_software_is_told_from_software_that_is_not_known() -> None:
    """A Podman that is too busy to answer has not become another one."""
    known = Versions(kernel="6.12", criu="4.2", podman="5.8", runtime="crun 1.28")
    assert not known.differs_from(known)
    assert not known.differs_from(known.model_copy(update={"podman": "", "runtime": ""}))
    assert not Versions().differs_from(known)
    for field in ("kernel", "criu", "podman", "runtime"):
        assert known.differs_from(known.model_copy(update={field: "other"})), field
    features = known.model_copy(update={"cpu_features": NEHALEM})
    assert features.differs_from(known.model_copy(update={"cpu_features": SKYLAKE}))
