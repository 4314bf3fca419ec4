"""Names of images mean what they mean in a Pod."""

from __future__ import annotations

import pytest

from tryitnow.podman.errors import ImageNameError, ImagePullError
from tryitnow.podman.references import full_reference, is_of_registry, repository_of

DIGEST = "sha256:" + "5" * 64


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("prestashop/prestashop-flashlight:9", "docker.io/prestashop/prestashop-flashlight:9"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("a/b/c", "docker.io/a/b/c:latest"),
        ("ghcr.io/someone/shop", "ghcr.io/someone/shop:latest"),
        ("registry:5000/shop:1", "registry:5000/shop:1"),
        ("localhost:5000/shop:1", "localhost:5000/shop:1"),
        ("127.0.0.1/shop", "127.0.0.1/shop:latest"),
        ("[fd00::1]:5000/shop:1", "[fd00::1]:5000/shop:1"),
        ("Registry/shop", "Registry/shop:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"reg.example/shop:1@{DIGEST}", f"reg.example/shop@{DIGEST}"),
        ("3f", "docker.io/library/3f:latest"),
        ("docker", "docker.io/library/docker:latest"),
        ("a__b-c---d/e.f", "docker.io/a__b-c---d/e.f:latest"),
    ],
)  # fmt: skip
def test_a_name_is_resolved_as_in_a_pod(name: str, meant: str) -> None:
    assert full_reference(name) == meant


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Shop",
        "Shop!",
        "reg.example/Shop",
        "reg.example/",
        "reg.example/shop:",
        "reg.example/shop:-1",
        "reg.example/shop@sha256:12",
        "docker://nginx",
        "oci:/var/lib/containers/storage",
        "docker-archive:/etc/passwd",
        "reg.example/../shop",
        "reg.example/shop:1 --all",
        "nginx\n",
        "reg.example/" + "a/" * 200 + "a",
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ImageNameError, match="write it as"):
        full_reference(name)


@pytest.mark.parametrize("name", ["5" * 64, DIGEST, "localhost/tryitnow/prepared:1", "localhost/x"])
def test_what_is_on_one_node_only_is_refused(name: str) -> None:
    """Or a Checkpoint started other people's images, that its author may not pull."""
    with pytest.raises(ImageNameError, match="one node only"):
        full_reference(name)


def test_who_handles_a_failed_pull_handles_a_wrong_name() -> None:
    assert issubclass(ImageNameError, ImagePullError)


def test_the_repository_of_a_reference() -> None:
    assert repository_of("registry:5000/a/shop:1") == "registry:5000/a/shop"
    assert repository_of(f"registry:5000/shop@{DIGEST}") == "registry:5000/shop"


@pytest.mark.parametrize(
    ("name", "registry", "is_of"),
    [
        ("nginx", "docker.io", True),
        ("nginx", "docker.io/library", True),
        ("someone/nginx", "docker.io/library", False),
        ("index.docker.io/nginx", "docker.io", True),
        ("quay.io/team/shop:1", "quay.io", True),
        ("quay.io/team/shop:1", "quay.io/team", True),
        (f"quay.io/team/shop@{DIGEST}", "quay.io/team/shop", True),
        ("quay.io/teammate/shop", "quay.io/team", False),
        ("quay.io.evil.example/team/shop", "quay.io", False),
        ("evil.example/quay.io/team", "quay.io", False),
        ("QUAY.IO/team/shop", "quay.io", True),
        ("reg.example:5000/shop", "reg.example", False),
        ("reg.example:5000/shop", "reg.example:5000", True),
        ("a.reg.example/shop", "*.reg.example", True),
        ("a.b.reg.example/team/shop", "*.reg.example/team", True),
        ("reg.example/shop", "*.reg.example", False),
        ("evilreg.example/shop", "*.reg.example", False),
        ("Shop!", "docker.io", False),
    ],
)
def test_an_image_is_of_a_registry_by_whole_names(name: str, registry: str, is_of: bool) -> None:  # noqa: FBT001
    assert is_of_registry(name, registry) is is_of
