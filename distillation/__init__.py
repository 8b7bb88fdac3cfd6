"""Teacher ranks collections of documents, the student learns its scores.

mine -> teacher -> train: candidates of each query on disk, the teachers' scores beside them, and a JinaBERT
student that is trained on the scores. Every step reads and writes JSON Lines, so a killed run goes on where
it stopped.
"""
