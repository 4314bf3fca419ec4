"""The lab: one Linux machine turned into a Kubernetes cluster for Try It Now.

A real kube-apiserver and etcd, an image registry, and two or more nodes with a real Podman and
CRIU, each a namespace of its own. Everything that works around the limits of the machine stays in
this package; the operator knows nothing of it.

Standard library only: the lab runs before any virtual environment exists.
"""


class LabError(Exception):
    """Something the person at the machine has to know: what, where, and the next step."""
