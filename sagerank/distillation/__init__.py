"""Teacher ranks collections of documents, the student learns its scores.

mine -> teacher -> student -> train -> gate: candidates of each query on disk, the teachers' scores beside them, a
JinaBERT student cut out of a larger model, trained on the scores, and an artefact that is written only if the
student ranks well enough. Every step reads and writes files, so a killed run goes on where it stopped.
"""


class DistillationError(ValueError):
    """Something about text, teachers or settings that the person who asked can put right; the message says how."""
