"""try-it-now: checkpoint a warm application once, restore a private demo on demand.

The rooms of this house, in the order in which imports may point (never back):

``cli`` → ``controller`` (decides, once per cluster), ``agent`` (does, once per node) and
``client`` (asks, for other services) → ``doctor`` → ``kubernetes``, ``podman`` → ``workqueue`` →
``metrics`` → ``settings`` → ``api``.
"""

__version__ = "0.1.0"
