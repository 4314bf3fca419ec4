"""Signs an image of the lab's registry as `cosign sign --key` does, without Cosign.

A signature is an image of its own, under a tag that is made of the digest. Its one layer says what
is signed, and an annotation of the layer is the signature of that.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
_ANY_MANIFEST = f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"


class Signer:
    """Somebody with a key of their own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def key_data(self) -> str:
        """The public key as containers-policy.json(5) has it in keyData."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(public).decode()

    def sign(self, registry: str, repository: str, tag: str) -> None:
        """Sign what a tag means now, and push the signature beside it."""
        with requests.Session() as session:
            session.trust_env = False
            base = f"http://{registry}/v2/{repository}"
            digest = _digest_of(session, base, tag)
            payload = _payload(f"{registry}/{repository}", digest)
            signature = self._key.sign(payload, ec.ECDSA(hashes.SHA256()))
            layer = _push(session, base, payload, PAYLOAD)
            layer["annotations"] = {SIGNATURE: base64.b64encode(signature).decode()}
            config = {
                "architecture": "",
                "os": "",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            }
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _push(session, base, json.dumps(config).encode(), CONFIG),
                "layers": [layer],
            }
            answer = session.put(
                f"{base}/manifests/{digest.replace(':', '-')}.sig",
                data=json.dumps(manifest).encode(),
                headers={"Content-Type": MANIFEST},
                timeout=10,
            )
            answer.raise_for_status()


def _payload(reference: str, digest: str) -> bytes:
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": critical, "optional": {}}).encode()


def _digest_of(session: requests.Session, base: str, tag: str) -> str:
    answer = session.head(f"{base}/manifests/{tag}", headers={"Accept": _ANY_MANIFEST}, timeout=10)
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def _push(session: requests.Session, base: str, content: bytes, kind: str) -> dict[str, Any]:
    """Push a blob, and return its descriptor."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = session.post(f"{base}/blobs/uploads/", timeout=10)
    begun.raise_for_status()
    separator = "&" if "?" in begun.headers["Location"] else "?"
    done = session.put(
        f"{begun.headers['Location']}{separator}digest={digest}",
        data=content,
        headers={"Content-Type": "application/octet-stream"},
        timeout=10,
    )
    done.raise_for_status()
    return {"mediaType": kind, "digest": digest, "size": len(content)}
