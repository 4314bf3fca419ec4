"""Images, against libpod's endpoints."""

from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod, no_content
from tryitnow.podman.client import (
    Podman,
    PullPolicy,
)
from tryitnow.podman.errors import (
    ImageNameError,
    ImagePullError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.registry_auth import NO_CREDENTIALS, Credentials

NAME = "tryitnow_demo_default_anna_12345678"
DIGEST = "sha256:" + "5" * 64


def serve_image(libpod: FakeLibpod, *repo_digests: str) -> None:
    lines = [{"stream": "Getting image source"}, {"images": ["1f2e"], "id": "1f2e"}]
    libpod.on_stream("POST", "/images/pull", *(json.dumps(x).encode() + b"\n" for x in lines))
    libpod.on_json("GET", "/images/1f2e/json", {"Id": "1f2e", "RepoDigests": list(repo_digests)})


@pytest.mark.parametrize(
    ("reference", "digests", "pinned"),
    [
        ("reg.example/shop:1.2", [f"reg.example/shop@{DIGEST}"], f"reg.example/shop@{DIGEST}"),
        ("reg.example:5000/shop", [f"reg.example:5000/shop@{DIGEST}"],
         f"reg.example:5000/shop@{DIGEST}"),
        ("reg.example:5000/a/shop:1", [f"z.example/shop@{DIGEST}",
         f"reg.example:5000/a/shop@{DIGEST}"], f"reg.example:5000/a/shop@{DIGEST}"),
        ("shop:1", [f"docker.io/library/shop@{DIGEST}"], f"docker.io/library/shop@{DIGEST}"),
        (f"reg.example/shop@{DIGEST}", [], f"reg.example/shop@{DIGEST}"),
    ],
    ids=["tag", "port", "several", "short", "digest"],
)  # fmt: skip
async def test_an_image_is_pinned_to_what_was_pulled(
    libpod: FakeLibpod, podman: Podman, reference: str, digests: list[str], pinned: str
) -> None:
    serve_image(libpod, *digests)
    image = await podman.pull(reference)
    assert image.pinned == pinned
    assert image.id == "1f2e"


async def test_a_pull_always_asks_the_registry_and_a_restore_only_for_what_is_missing(
    libpod: FakeLibpod, podman: Podman
) -> None:
    serve_image(libpod, f"reg.example/shop@{DIGEST}")
    await podman.pull("reg.example/shop:1.2")
    await podman.ensure_image(f"reg.example/shop@{DIGEST}")
    pulls = [a.query for a in libpod.asked if a.path == "/images/pull"]
    assert [(p["reference"], p["policy"]) for p in pulls] == [
        ("reg.example/shop:1.2", "always"),
        (f"reg.example/shop@{DIGEST}", "missing"),
    ]


async def test_without_credentials_of_its_own_a_pull_shows_none(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """Podman would show those that it is configured with, which are somebody else's."""
    serve_image(libpod)
    shown: list[str] = []
    serve = libpod.answer_of("POST", "/images/pull")

    async def note(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers["X-Registry-Auth"])
        return await serve(request)

    libpod.on("POST", "/images/pull", note)
    await podman.pull(f"reg.example/shop@{DIGEST}")
    await podman.ensure_image(f"reg.example/shop@{DIGEST}")
    assert [json.loads(base64.urlsafe_b64decode(each)) for each in shown] == [{}, {}]


@pytest.mark.parametrize("digests", [[], [f"z.example/shop@{DIGEST}"]])
async def test_an_image_that_was_made_on_the_node_is_none_of_a_registry(
    libpod: FakeLibpod, podman: Podman, digests: list[str]
) -> None:
    serve_image(libpod, *digests)
    with pytest.raises(ImagePullError, match=r"made on this node.*push it to one"):
        await podman.pull("reg.example/shop:1")


async def test_a_pull_that_fails_halfway_is_an_error_though_the_status_was_200(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream(
        "POST",
        "/images/pull",
        b'{"stream":"Trying to pull reg.example/shop:9..."}\n',
        b'{"error":"reading manifest 9: manifest unknown"}\n',
    )
    with pytest.raises(ImagePullError, match=r"'reg.example/shop:9' cannot be pulled.*unknown"):
        await podman.pull("reg.example/shop:9")


async def test_a_pull_that_is_refused_is_the_same_error(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_error("POST", "/images/pull", "requested access to the resource is denied", 401)
    with pytest.raises(ImagePullError, match="access to the resource is denied"):
        await podman.pull("shop")


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        ("Source image rejected: A signature was required, but no signature exists", "sign it"),
        (
            "Source image rejected: Running image docker://reg.example/shop:1 is rejected by "
            "policy.",
            "use a repository that it names",
        ),
        (
            "Source image rejected: cryptographic signature verification failed: invalid "
            "signature when validating ASN.1 encoded signature",
            "sign it with a key that the policy names",
        ),
    ],
)
async def test_an_image_without_a_good_signature_is_refused_with_the_remedy(
    libpod: FakeLibpod, podman: Podman, answer: str, remedy: str
) -> None:
    libpod.on_stream("POST", "/images/pull", json.dumps({"error": answer}).encode() + b"\n")
    with pytest.raises(ImagePullError, match=rf"(?s)What to do: .*agent\.podman\.policy.*{remedy}"):
        await podman.pull("reg.example/shop:1")


async def test_a_name_that_is_none_does_not_reach_podman(
    libpod: FakeLibpod, podman: Podman
) -> None:
    with pytest.raises(ImageNameError):
        await podman.pull("localhost/tryitnow/prepared:1")
    assert libpod.asked == []


async def test_a_name_is_pulled_as_it_is_meant(libpod: FakeLibpod, podman: Podman) -> None:
    serve_image(libpod, f"docker.io/library/nginx@{DIGEST}")
    assert (await podman.pull("nginx")).pinned == f"docker.io/library/nginx@{DIGEST}"
    assert libpod.asked[0].query["reference"] == "docker.io/library/nginx:latest"


@pytest.mark.parametrize(
    ("reference", "policy", "asked"),
    [
        (f"reg.example/shop@{DIGEST}", None, "missing"),
        ("reg.example/shop:1", None, "always"),
        ("reg.example/shop:1", PullPolicy.MISSING, "missing"),
        (f"reg.example/shop@{DIGEST}", PullPolicy.ALWAYS, "always"),
    ],
)
async def test_the_registry_is_asked_when_it_has_to_be(
    libpod: FakeLibpod, podman: Podman, reference: str, policy: PullPolicy | None, asked: str
) -> None:
    serve_image(libpod, f"reg.example/shop@{DIGEST}")
    await podman.pull(reference, policy=policy)
    assert libpod.asked[0].query["policy"] == asked


async def test_credentials_are_tried_one_after_the_other(
    libpod: FakeLibpod, podman: Podman
) -> None:
    serve_image(libpod, f"reg.example/shop@{DIGEST}")
    serve = libpod.answer_of("POST", "/images/pull")
    anna, ben = Credentials("anna", "1"), Credentials("ben", "2")
    shown: list[str | None] = []

    async def only_ben(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers.get("X-Registry-Auth"))
        if shown[-1] != ben.header()["X-Registry-Auth"]:
            return web.json_response({"cause": "no", "message": "access denied"}, status=401)
        return await serve(request)

    libpod.on("POST", "/images/pull", only_ben)
    assert (await podman.pull("reg.example/shop:1", auth=[anna, ben])).id == "1f2e"
    with pytest.raises(ImagePullError, match="denied"):
        await podman.pull("reg.example/shop:1", auth=[anna])
    with pytest.raises(ImagePullError, match="denied"):
        await podman.pull("reg.example/shop:1")
    nothing = NO_CREDENTIALS["X-Registry-Auth"]
    assert shown == [*(c.header()["X-Registry-Auth"] for c in (anna, ben, anna)), nothing]


async def test_a_service_that_dies_during_a_pull_is_no_fault_of_the_image(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream("POST", "/images/pull", b'{"stream":"Copying bl', breaks=True)
    with pytest.raises(PodmanUnreachableError):
        await podman.pull("reg.example/shop:1")


REPOSITORY = "localhost/tryitnow/prepared"
BASE = f"reg.example/shop@{DIGEST}"


def quoted(reference: str) -> str:
    return urllib.parse.quote(reference, safe="")


@pytest.fixture
def workshop(libpod: FakeLibpod, tmp_path: Path) -> Path:
    """A service that makes images; returns the root file system of the container for it."""
    serve_image(libpod)
    root = tmp_path / "root"
    root.mkdir()

    async def mounted(_: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{root}\n")

    libpod.on_error("DELETE", f"/containers/{NAME}", "no such container", 404)
    libpod.on_error("DELETE", f"/images/{quoted(f'{REPOSITORY}:77')}", "no such image", 404)
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    libpod.on("POST", f"/containers/{NAME}/mount", mounted)
    libpod.on("POST", f"/containers/{NAME}/unmount", no_content)
    libpod.on_json("POST", "/commit", {"Id": "abcd"}, 201)
    return root


async def test_an_image_is_made_of_another_and_what_is_put_into_it(
    libpod: FakeLibpod, podman: Podman, workshop: Path
) -> None:
    def fill(root: Path) -> None:
        (root / "index.html").write_text("welcome")

    assert await podman.build_image(NAME, BASE, REPOSITORY, "77", fill) == "abcd"
    assert (workshop / "index.html").read_text() == "welcome"
    asked = [(a.method, a.path) for a in libpod.asked]
    assert asked.index(("DELETE", f"/images/{quoted(f'{REPOSITORY}:77')}")) < asked.index(
        ("POST", "/commit")
    ), "or the one before would stay without a name"
    assert asked[-1] == ("DELETE", f"/containers/{NAME}")
    [committed] = [a.query for a in libpod.asked if a.path == "/commit"]
    assert committed == {"container": NAME, "repo": REPOSITORY, "tag": "77"}
    [created] = [json.loads(a.body) for a in libpod.asked if a.path == "/containers/create"]
    assert created["image"] == BASE


async def test_an_image_that_cannot_be_filled_leaves_nothing_behind(
    libpod: FakeLibpod, podman: Podman, workshop: Path
) -> None:
    del workshop

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await podman.build_image(NAME, BASE, REPOSITORY, "77", full)
    asked = [(a.method, a.path) for a in libpod.asked]
    assert ("POST", "/commit") not in asked
    assert asked[-1] == ("DELETE", f"/containers/{NAME}")


async def test_whether_an_image_is_there(libpod: FakeLibpod, podman: Podman) -> None:
    path = f"/images/{quoted(f'{REPOSITORY}:77')}/exists"
    libpod.on("GET", path, no_content)
    assert await podman.has_image(f"{REPOSITORY}:77")
    libpod.on_error("GET", path, "no such image", 404)
    assert not await podman.has_image(f"{REPOSITORY}:77")
    libpod.on_error("GET", path, "storage is locked", 500)
    with pytest.raises(PodmanError, match="storage is locked"):
        await podman.has_image(f"{REPOSITORY}:77")


async def test_the_tags_of_one_repository_are_reported_from_those_of_others(
    libpod: FakeLibpod, podman: Podman
) -> None:
    images = [
        {"Id": "1f2e", "RepoTags": [f"{REPOSITORY}:77", "reg.example:5000/shop:1"]},
        {"Id": "3d4c", "RepoTags": [f"{REPOSITORY}/more:78"]},
        {"Id": "5b6a", "RepoTags": None},
    ]
    libpod.on_json("GET", "/images/json", images)
    assert await podman.image_tags(REPOSITORY) == {"77"}
    assert await podman.images_of(REPOSITORY) == {"77": "1f2e"}
    assert json.loads(libpod.asked[0].query["filters"]) == {"reference": [REPOSITORY]}
    libpod.on_json("GET", "/images/json", None)
    assert await podman.image_tags(REPOSITORY) == set()


async def test_an_image_that_is_pruned_meanwhile_does_not_fail_the_list(
    libpod: FakeLibpod, podman: Podman
) -> None:
    asked = 0

    async def answer(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            output = "retrieving size of image 1f2e: layer not known"
            return web.json_response({"cause": output, "message": output}, status=500)
        return web.json_response([{"Id": "1f2e", "RepoTags": [f"{REPOSITORY}:77"]}])

    libpod.on("GET", "/images/json", answer)
    assert await podman.images_of(REPOSITORY) == {"77": "1f2e"}


async def test_an_image_that_a_container_needs_stays(libpod: FakeLibpod, podman: Podman) -> None:
    path = f"/images/{quoted(f'{REPOSITORY}:77')}"
    libpod.on_error("DELETE", path, "image is in use by a container", 409)
    assert not await podman.remove_image(f"{REPOSITORY}:77")
    libpod.on_json("DELETE", path, {"Deleted": ["abcd"]})
    assert await podman.remove_image(f"{REPOSITORY}:77")
    libpod.on_error("DELETE", path, "no such image", 404)
    assert await podman.remove_image(f"{REPOSITORY}:77"), "it is gone already"
    libpod.on_error("DELETE", path, "storage is locked", 500)
    with pytest.raises(PodmanError, match="storage is locked"):
        await podman.remove_image(f"{REPOSITORY}:77")
