"""Measurements that stand behind every number in ``docs/benchmarks.md``; ``scripts/benchmark.py`` is the door."""
