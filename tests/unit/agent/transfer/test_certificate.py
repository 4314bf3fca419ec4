"""The certificate of an agent's transfer server."""

from __future__ import annotations

import ipaddress
import ssl

import pytest
from cryptography import x509

from tryitnow.agent.transfer.certificate import (
    UnusableCertificateError,
    make_certificate,
    trust_only,
)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "node-a.example"])
def test_a_certificate_is_for_the_address_of_its_node(address: str) -> None:
    certificate = x509.load_pem_x509_certificate(make_certificate(address).pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    message: list[object] = [
        *names.get_values_for_type(x509.IPAddress),
        *names.get_values_for_type(x509.DNSName),
    ]
    try:
        assert message == [ipaddress.ip_address(address)]
    except ValueError:
        assert message == [address]


def test_every_start_makes_a_key_of_its_own() -> None:
    first, second = (
        x509.load_pem_x509_certificate(make_certificate("192.0.2.1").pem.encode()) for _ in range(2)
    )
    assert first.public_key() != second.public_key()
    assert first.serial_number != second.serial_number


def test_old_protocols_are_not_spoken() -> None:
    context = make_certificate("192.0.2.1").context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_one_certificate_is_trusted_and_no_other() -> None:
    context = trust_only(make_certificate("192.0.2.1").pem)
    assert context.cert_store_stats()["x509"] == 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_an_agent_that_has_published_no_certificate_yet_is_not_trusted() -> None:
    # Not even by the public authorities, which ssl falls back on so easily.
    with pytest.raises(UnusableCertificateError, match="no usable certificate"):
        trust_only("")


@pytest.mark.parametrize(
    "text",
    ["no certificate", "é", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(UnusableCertificateError, match="no usable certificate"):
        trust_only(text)


def test_no_clock_ends_a_certificate() -> None:
    """An agent may run for years, and the clocks of two nodes may differ by hours."""
    certificate = x509.load_pem_x509_certificate(make_certificate("192.0.2.1").pem.encode())
    assert certificate.not_valid_before_utc.year == 2000
    assert certificate.not_valid_after_utc.year == 9999
