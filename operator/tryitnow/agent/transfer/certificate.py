"""The certificate of this agent's transfer server: made at each start, published, never stored.

The other agents learn it through the API server and trust it alone, so no certificate authority
has to be set up. No clock ends it. Its key is replaced every week all the same: the next one is
published beside it for a day before it serves, so whoever fetches meanwhile trusts both.
"""

from __future__ import annotations

import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

ROTATE_SECONDS = 7 * 24 * 3600.0
"""How long a certificate serves until the next one is made."""

LEAD_SECONDS = 24 * 3600.0
"""How long the next one is known to the cluster before it serves: longer than the controller may
be away, which hands it on in the orders to fetch."""

TURN_EVERY_SECONDS = 600.0
"""Between two looks at whether it is time."""


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


class Certificates:
    """The certificate that serves, and the next one while the cluster learns of it."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Make the first one, for a node's address (IP or host name)."""
        self._address = address
        self._clock = clock
        self._current = make_certificate(address)
        self._since = clock()
        self._next: ServerCertificate | None = None
        self._next_known_since: float | None = None

    @property
    def pem(self) -> str:
        """What other agents are to trust."""
        return self._current.pem + (self._next.pem if self._next is not None else "")

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection is served with."""
        return self._current.context

    def reported(self, pem: str) -> None:
        """Note that the cluster knows a text that ``pem`` gave."""
        if self._next_known_since is None and self._next is not None and self._next.pem in pem:
            self._next_known_since = self._clock()

    def turn(self) -> None:
        """Do what it is time for: make the next one, or serve with it. Blocking."""
        now = self._clock()
        if self._next is None:
            if now - self._since >= ROTATE_SECONDS:
                self._next = make_certificate(self._address)
        elif self._next_known_since is not None and now - self._next_known_since >= LEAD_SECONDS:
            self._current, self._next = self._next, None
            self._since, self._next_known_since = now, None
