"""What a caller can tell from the class of an error of Podman's."""

from __future__ import annotations

import pytest

from tryitnow.podman.errors import (
    PodmanBusyError,
    PodmanError,
    PodmanFailure,
    PodmanUnreachableError,
)


@pytest.mark.parametrize("away", [PodmanUnreachableError, PodmanBusyError])
def test_who_handles_a_refusal_does_not_swallow_that_podman_is_away(away: type) -> None:
    """Or a demo's files were thrown away because Podman was being restarted."""
    assert not issubclass(away, PodmanError)
    assert issubclass(away, PodmanUnreachableError)


def test_both_have_a_base_for_those_who_only_log() -> None:
    assert issubclass(PodmanError, PodmanFailure)
    assert issubclass(PodmanUnreachableError, PodmanFailure)
