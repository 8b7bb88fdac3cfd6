"""One DeployConfig in, a Reranker out, no AWS call at synth: a construct of any stack, or, in our own app, four stacks.

config -> rules (what cannot work is refused) and estimate (what it costs) -> reranker -> network, model, endpoint with
rollout and scaling, observability. app makes a stack of each of these.
"""
