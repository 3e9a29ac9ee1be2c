"""What auth costs, beside its floors and its peers: ``python -m tests.benchmarks``."""
