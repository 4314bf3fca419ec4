"""The certificate of this agent's transfer server: made at each start, published, never stored.

The other agents learn it through the API server and trust it alone, so no certificate authority
has to be set up and nothing has to be rotated.
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerCertificate:
    """A self-signed certificate and the TLS context that serves with it."""

    pem: str
    context: ssl.SSLContext


class UnusableCertificateError(ValueError):
    """What an agent published is no certificate: nobody can be trusted by it."""


def trust_only(pem: str) -> ssl.SSLContext:
    """Return a context that accepts this one certificate and no other.

    Raises:
        UnusableCertificateError: the text is empty or no certificate.

    """
    # Not ssl.create_default_context: without certificates it trusts all public authorities.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, TypeError, ValueError) as error:  # TypeError: it is not ASCII
        msg = f"it has published no usable certificate ({error})"
        raise UnusableCertificateError(msg) from error
    # The certificate is its own anchor, though it is no authority (default since Python 3.13).
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def make_certificate(address: str) -> ServerCertificate:
    """Make a key and a certificate for a node's address (IP or host name)."""
    # Here, once the agent answers its probes: the library takes as long as ten others.
    from tryitnow.agent.transfer.self_signed import self_signed

    made = self_signed(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The ssl module loads keys from files only; this one lives for these two lines, 0600.
    with tempfile.NamedTemporaryFile() as file:
        file.write(made.key + made.certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return ServerCertificate(made.certificate.decode(), context)
