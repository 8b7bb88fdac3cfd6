"""The image itself, run with podman as SageMaker runs it: `make container`.

Marked `container` and left out of `make test`; skipped, with the reason, where podman cannot run.
"""
