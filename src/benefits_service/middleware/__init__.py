"""What the service puts around the API, one file each: identity, request log, metrics, the built frontend."""
