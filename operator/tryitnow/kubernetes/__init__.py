"""The one place that talks to the Kubernetes API (Kopf's watches apart).

Our models go in and come out; no policy lives here.
"""
