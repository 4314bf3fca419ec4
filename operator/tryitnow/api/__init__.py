"""The resources of ``tryitnow.dev/v1alpha1`` as pydantic models: the one source of the CRDs.

Nothing in here talks to anybody: no cluster, no Podman, no disk.
"""
