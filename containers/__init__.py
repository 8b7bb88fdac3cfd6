"""Images, built from a checkout: with Docker where there is one, else with podman and buildah.

engine (which of them, and how it has to be called here) <- standin (a base image where no registry is reached), build (`make image`).
Tests start what was built through tests.containers.running.
"""
