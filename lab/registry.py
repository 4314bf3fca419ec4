"""The image registry of a lab. Its storage is in the cache: an image pushed once stays."""

from __future__ import annotations

import http.client

from lab import LabError, binaries, cache, control_plane, network
from lab.state import Lab
from lab.supervise import Unit

_PORT = 5000


def location(number: int) -> str:
    """host:port, as nodes and this machine see it."""
    return f"{network.control_plane_address(number)}:{_PORT}"


def unit(lab: Lab, number: int) -> Unit:
    """The registry as a supervised unit."""
    config = lab.directory / "registry.yaml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {cache.directory('registry')}}}, "
        "delete: {enabled: true}}\n"
        f"http: {{addr: '{location(number)}'}}\n"
    )
    argv = [str(binaries.registry()), "serve", str(config)]
    # Without this its OpenTelemetry client looks for a collector.
    return Unit("registry", control_plane.in_lab(lab, argv), env={"OTEL_TRACES_EXPORTER": "none"})


def has(number: int, name: str, tag: str) -> bool:
    """Whether the registry holds that image."""
    host, _, port = location(number).partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    kinds = (
        "application/vnd.oci.image.manifest.v1+json, "
        "application/vnd.docker.distribution.manifest.v2+json"
    )
    try:
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers={"Accept": kinds})
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError as error:
        raise LabError(f"No registry answers at {location(number)}: {error}") from error
    finally:
        connection.close()
