"""`sagerank bench`: how fast, how large, how soon, each figure with its conditions and with what arithmetic allows.

conditions and ceiling say what the machine can do, arithmetic what the work is, workload what is scored, timing how
subjects are compared; throughput, latency, memory, startup and serve are the measurements.
"""
