"""A model by name or folder -> the artefact that is deployed."""
