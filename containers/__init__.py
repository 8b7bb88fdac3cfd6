"""Images, built from a checkout: with Docker where there is one, else with podman.

engine (which of them, and how it has to be called here) <- emulation (of another architecture), standin (a base image where no
registry is reached) <- build, sbom (`make image`). Tests start what was built through tests.containers.running.
"""
