"""The CDK app: one DeployConfig in, four stacks out (network, model, endpoint, observability), no AWS call at synth.

config -> rules (what cannot work is refused) and estimate (what it costs) -> app -> network, model, endpoint with
rollout and scaling, observability.
"""
