"""Clients that others publish, unmodified, against our server: `make clients`, or `python -m tests.clients GROUP`.

A group is what installs into one environment: GROUP.in, what `make pins` resolves to GROUP.txt, with GROUP.py; or
GROUP/package.json and its lock, with GROUP.mjs. A script is run alone, as `python GROUP.py URL REQUEST.json` (query,
documents), by the group's own interpreter; nothing of this project can be imported in it but what lies in shared/, and no
address but this machine's can be reached. It prints a JSON object a row: client, version, asked, began and ended (seconds
since 1970), and scores in the order of the request, or error, a line. raw: the scores are logits. top: only the best so
many were asked for, the other scores are null.
"""
