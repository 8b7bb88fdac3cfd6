"""All that runs inside the container.

bytes -> contract.parse -> tokenise -> plan -> forward -> scatter -> contract.render -> bytes

`engine` is those four verbs in one process; `server` puts `batcher` and a `worker` process between them so
that concurrent requests share batches and a crash of the model is not a crash of the server; `handler` is what the
SageMaker toolkit calls. Nothing is imported here: a client that needs the wire contract must not pay for a
model runtime.
"""
