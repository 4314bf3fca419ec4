"""The one place that talks to the Kubernetes API (Kopf's watches apart).

Our models go in and come out; no policy lives here.
"""

from tryitnow.packages import load_late

for package in (
    "kubernetes",
    "kubernetes.aio",
    "kubernetes.aio.config",
    "kubernetes.aio.utils",
):
    load_late(package)
