"""What containers take from the cluster, and that none of it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.builders import make_container
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.errors import SourceError
from tryitnow.agent.sandbox.secrets import Redacted, read_sources
from tryitnow.api.meta import Key
from tryitnow.api.template import Template

PASSWORD = "correct horse"
ACCOUNT = "tryitnow-system:tryitnow-agent"


def template(**changes: Any) -> Template:
    env = [
        {"name": "LANG", "value": "C"},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "password"}}},
    ]
    volumes = [
        {"name": "keys", "secret": {"secretName": "shop"}},
        {"name": "conf", "configMap": {"name": "shop", "items": [{"key": "ini", "path": "a.ini"}]}},
    ]
    whole = {
        "containers": [make_container().to_api() | {"env": env}],
        "volumes": volumes,
        **changes,
    }
    return Template.model_validate(whole)


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    kubernetes = FakeKubernetes()
    key = Key("default", "shop")
    kubernetes.data["secrets", key] = {"password": PASSWORD.encode(), "tls.key": b"one\ntwo22\n"}
    kubernetes.data["configmaps", key] = {"ini": b"[shop]", "other": b"x"}
    return kubernetes


async def test_values_come_from_where_the_template_says(kubernetes: FakeKubernetes) -> None:
    sources = await read_sources(kubernetes, ACCOUNT, "default", template())
    assert sources.env == {"shop": {"LANG": "C", "PASSWORD": PASSWORD}}
    assert sources.files["conf"] == {"a.ini": b"[shop]"}
    assert set(sources.files["keys"]) == {"password", "tls.key"}
    shown = sources.redacted.text(f"login with {PASSWORD} failed: two22 is no key; [shop]")
    assert shown == "login with *** failed: *** is no key; [shop]"


async def test_a_missing_secret_names_the_field_and_the_way_out(
    kubernetes: FakeKubernetes,
) -> None:
    del kubernetes.data["secrets", Key("default", "shop")]
    with pytest.raises(SourceError) as caught:
        await read_sources(kubernetes, ACCOUNT, "default", template())
    assert str(caught.value).startswith(
        "spec.template.containers[0].env[PASSWORD].valueFrom.secretKeyRef: "
        "there is no Secret 'shop' in namespace default; create it"
    )


async def test_a_missing_key_shows_which_there_are_but_no_value(
    kubernetes: FakeKubernetes,
) -> None:
    kubernetes.data["secrets", Key("default", "shop")] = {"user": b"anna"}
    with pytest.raises(SourceError, match=r"no key 'password'; its keys are: user") as caught:
        await read_sources(kubernetes, ACCOUNT, "default", template())
    assert "anna" not in str(caught.value)


async def test_a_secret_that_may_not_be_read_says_by_which_command_a_namespace_opts_in(
    kubernetes: FakeKubernetes,
) -> None:
    kubernetes.forbidden.add(("secrets", Key("default", "shop")))
    command = (
        "kubectl create rolebinding tryitnow-agent-sources --namespace=default "
        "--clusterrole=tryitnow-agent-sources --serviceaccount=tryitnow-system:tryitnow-agent"
    )
    with pytest.raises(SourceError, match=f"may not read Secret 'shop'.*{command}"):
        await read_sources(kubernetes, ACCOUNT, "default", template())


async def test_what_is_optional_may_be_missing() -> None:
    env = [
        {
            "name": "PASSWORD",
            "valueFrom": {"secretKeyRef": {"name": "shop", "key": "password", "optional": True}},
        }
    ]
    containers = [make_container().to_api() | {"env": env}]
    volumes = [{"name": "keys", "secret": {"secretName": "shop", "optional": True}}]
    whole = template(containers=containers, volumes=volumes)
    sources = await read_sources(FakeKubernetes(), ACCOUNT, "default", whole)
    assert sources.env == {"shop": {}}
    assert sources.files == {"keys": {}}


def test_a_secret_within_a_secret_is_hidden_whole() -> None:
    redacted = Redacted().also(["abc", "abcdef"])
    assert redacted.text("abcdef abc") == "*** ***"


def test_what_is_too_short_to_be_a_secret_garbles_nothing() -> None:
    assert Redacted().also(["", "1", "no"]).text("1 of 2: no") == "1 of 2: no"


def test_nothing_steers_a_terminal_or_forges_a_line() -> None:
    message = "ok\x1b[2J\x1b]0;owned\x07\rforged\x00 caf\u00e9\u202e\tend\n"
    assert Redacted().text(message) == "okforged caf\u00e9\tend\n"


def test_a_secret_with_control_characters_put_between_is_hidden() -> None:
    redacted = Redacted().also(["hunter2"])
    assert redacted.text("it is hun\x1b[0mt\u202eer2") == "it is ***"


def test_a_secret_with_control_characters_between_is_hidden_as_it_was_written() -> None:
    redacted = Redacted().also(["one\x1btwo"])
    assert redacted.text("it is one\x1btwo") == "it is ***"


async def test_credentials_for_registries_are_read_and_not_shown(
    kubernetes: FakeKubernetes,
) -> None:
    kubernetes.data["secrets", Key("default", "pull")] = {".dockerconfigjson": b"{'auth': 'xyz'}"}
    sources = await read_sources(
        kubernetes, ACCOUNT, "default", template(imagePullSecrets=[{"name": "pull"}])
    )
    assert sources.pull_secrets == ({".dockerconfigjson": b"{'auth': 'xyz'}"},)
    assert "xyz" not in sources.redacted.text("{'auth': 'xyz'}")


async def test_a_missing_credential_names_its_field(kubernetes: FakeKubernetes) -> None:
    with pytest.raises(SourceError, match=r"imagePullSecrets\[pull\]: there is no Secret 'pull'"):
        await read_sources(
            kubernetes, ACCOUNT, "default", template(imagePullSecrets=[{"name": "pull"}])
        )
