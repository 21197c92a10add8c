"""Wrappers around the API, one file each: identity, request log, metrics, frontend."""
