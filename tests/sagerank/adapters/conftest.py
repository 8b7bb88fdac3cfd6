"""Before Haystack is imported, which asks once: it would report what runs."""

from __future__ import annotations

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
