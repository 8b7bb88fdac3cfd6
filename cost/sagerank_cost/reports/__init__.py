"""The reports, one a file: what `sagerank cost` says, as tables, charts and sentences that render.py writes in five formats."""
