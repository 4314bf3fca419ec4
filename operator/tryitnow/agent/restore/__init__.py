"""The ways to bring an application up in a sandbox: restore, cold start, restart.

Nothing in here knows who asks: a build, a test restore, the warm pool, or a demo.
"""
