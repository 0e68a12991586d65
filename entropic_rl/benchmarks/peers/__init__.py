"""Our toolkit and others on the same tasks, in turn: ``python scripts/benchmark.py peers``."""
