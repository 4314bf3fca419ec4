"""try-it-now: freeze a warm application once, thaw a private copy on demand.

The rooms of this house, in the order in which imports may point (never back):

``cli`` → ``controller`` (decides, once per cluster), ``agent`` (does, once per node) and
``client`` (asks, for other services) → ``doctor`` → ``kubernetes``, ``podman`` → ``workqueue`` →
``metrics`` → ``settings`` → ``api``.
"""

__version__ = "0.1.0"
