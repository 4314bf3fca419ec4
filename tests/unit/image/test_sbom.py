"""The bill of materials: what is installed, in a form that scanners read, the same each time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL

from image import sbom
from lab.sbom import problem

STATUS = """Package: criu
Status: install ok installed
Architecture: amd64
Version: 4.2-1
Description: checkpoint and restore in userspace
 Status: of a process

Package: bsdutils
Status: install ok installed
Architecture: amd64
Source: util-linux (2.42.4-1)
Version: 1:2.42.4-1

Package: tzdata
Status: install ok installed
Architecture: all
Source: tzdata-source
Version: 2026b+really-1~1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""

PACKAGES = {
    "try_it_now-0.1.0": "Name: try-it-now\nVersion: 0.1.0\nLicense-Expression: Apache-2.0\n",
    "typing_extensions-4.16.0": "Name: typing_extensions\nVersion: 4.16.0\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text('ID=debian\nVERSION_CODENAME="forky"\n')
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    for name, metadata in PACKAGES.items():
        made = tmp_path / f"opt/try-it-now/lib/python3.14/site-packages/{name}.dist-info"
        made.mkdir(parents=True)
        (made / "METADATA").write_text(f"Metadata-Version: 2.4\n{metadata}")
    return tmp_path


def components(root: Path) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(sbom.text(root))["components"]}


def test_it_fits_the_schema_of_cyclonedx(root: Path) -> None:
    assert problem(sbom.text(root)) == ""


def test_what_does_not_fit_the_schema_is_told(root: Path) -> None:
    document = sbom.bill_of_materials(root)
    del document["components"][1]["name"]
    assert "name" in problem(json.dumps(document))


def test_it_has_all_packages_that_are_installed_and_no_other(root: Path) -> None:
    names = {"debian", "criu", "bsdutils", "tzdata", "try-it-now", "typing-extensions"}
    assert set(components(root)) == names


def test_a_package_has_the_version_and_the_source_that_advisories_are_about(root: Path) -> None:
    found = components(root)
    urls = {each["name"]: PackageURL.from_string(each["purl"]) for each in found.values()
            if "purl" in each}  # fmt: skip
    assert urls["criu"].version == "4.2-1"
    assert urls["bsdutils"].version == "1:2.42.4-1"
    assert urls["bsdutils"].qualifiers["upstream"] == "util-linux@2.42.4-1"
    assert urls["tzdata"].version == "2026b+really-1~1"
    assert urls["tzdata"].qualifiers == {
        "arch": "all", "distro": "debian-forky", "upstream": "tzdata-source",
    }  # fmt: skip
    assert urls["typing-extensions"].type == "pypi"
    for each in found.values():
        if "purl" in each:
            assert urls[each["name"]].to_string() == each["purl"]


def test_a_licence_is_told_where_the_package_tells_it(root: Path) -> None:
    found = components(root)
    assert found["try-it-now"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert "licenses" not in found["typing-extensions"]


def test_the_same_image_has_the_same_text(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = shutil.copytree(root, tmp_path_factory.mktemp("other") / "root")
    assert sbom.text(other) == sbom.text(root)


def test_another_version_has_another_number(root: Path) -> None:
    before = sbom.bill_of_materials(root)["serialNumber"]
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("4.2-1", "4.2-2"))
    assert sbom.bill_of_materials(root)["serialNumber"] != before
