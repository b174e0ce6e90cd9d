"""The operator's shell: kopf, start-up, endpoints."""
