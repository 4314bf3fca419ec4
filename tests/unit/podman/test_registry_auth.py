"""Which credentials are shown to a registry, from Secrets for image pulls."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tryitnow.podman.registry_auth import Credentials, Keyring, PullSecretError


def secret(**entries: Any) -> dict[str, bytes]:
    return {".dockerconfigjson": json.dumps({"auths": entries["auths"]}).encode()}


def auths(*places: str) -> dict[str, bytes]:
    """A Secret whose users are called like their places."""
    return secret(auths={place: {"username": place, "password": "x"} for place in places})


def users(keyring: Keyring, reference: str) -> list[str]:
    return [credentials.username for credentials in keyring.find(reference)]


@pytest.mark.parametrize(
    ("places", "reference", "found"),
    [
        (["reg.example"], "reg.example/shop:1", ["reg.example"]),
        (["https://reg.example"], "reg.example/shop:1", ["https://reg.example"]),
        (["https://reg.example/v2/"], "reg.example/shop:1", ["https://reg.example/v2/"]),
        (
            ["reg.example", "reg.example/team/deep", "reg.example/team", "reg.example/other"],
            "reg.example/team/deep/shop:1",
            ["reg.example/team/deep", "reg.example/team", "reg.example"],
        ),
        (["reg.example"], "reg.example:5000/shop:1", []),
        (["reg.example:5000"], "reg.example:5000/shop:1", ["reg.example:5000"]),
        (["reg.example"], "reg.example.evil/shop:1", []),
        (["reg.example"], "a.reg.example/shop:1", []),
        (["*.example"], "reg.example/shop:1", ["*.example"]),
        (["*.example"], "a.reg.example/shop:1", []),
        (["*.example", "reg.example"], "reg.example/shop:1", ["reg.example", "*.example"]),
        (
            ["https://index.docker.io/v1/"],
            "docker.io/library/nginx:latest",
            ["https://index.docker.io/v1/"],
        ),
        (["docker.io"], "docker.io/library/nginx:latest", ["docker.io"]),
        (["https://index.docker.io/v1/"], "reg.example/nginx:latest", []),
    ],
)
def test_credentials_are_found_as_by_the_kubelet(
    places: list[str], reference: str, found: list[str]
) -> None:
    assert users(Keyring([auths(*places)]), reference) == found


def test_several_secrets_are_tried_in_their_order() -> None:
    first = secret(auths={"reg.example": {"username": "anna", "password": "1"}})
    second = secret(auths={"reg.example": {"username": "ben", "password": "2"}})
    assert users(Keyring([first, second]), "reg.example/shop:1") == ["anna", "ben"]


@pytest.mark.parametrize("padding", ["", "="])
def test_a_password_may_have_a_colon_and_no_padding(padding: str) -> None:
    encoded = base64.b64encode(b"anna:pass:word").decode().rstrip("=") + padding
    keyring = Keyring([secret(auths={"reg.example": {"auth": encoded}})])
    assert keyring.find("reg.example/shop:1") == (Credentials("anna", "pass:word"),)


def test_the_old_form_has_no_auths_around_it() -> None:
    old = {".dockercfg": b'{"reg.example": {"username": "anna", "password": "x"}}'}
    assert users(Keyring([old]), "reg.example/shop:1") == ["anna"]


def test_an_entry_whose_credentials_are_elsewhere_is_passed_over() -> None:
    assert users(Keyring([secret(auths={"reg.example": {}})]), "reg.example/shop:1") == []


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"password": b"hunter2"},
        {".dockerconfigjson": b"hunter2"},
        {".dockerconfigjson": b'["hunter2"]'},
        {".dockerconfigjson": b'{"reg.example": {"password": "hunter2"}}'},
        {".dockerconfigjson": b'{"auths": {"reg.example": "hunter2"}}'},
        {".dockerconfigjson": b'{"auths": {"reg.example": {"auth": "hunter2hunter2"}}}'},
        {".dockercfg": b"\xff\xfe"},
    ],
)
def test_a_secret_that_cannot_be_read_is_not_shown(data: Mapping[str, bytes]) -> None:
    with pytest.raises(PullSecretError) as caught:
        Keyring([data])
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_is_shown_to_podman_and_nowhere_else() -> None:
    credentials = Credentials("anna", "hunter2")
    assert "hunter2" not in repr(credentials)
    [shown] = credentials.header().values()
    assert json.loads(base64.urlsafe_b64decode(shown)) == {
        "username": "anna",
        "password": "hunter2",
    }
