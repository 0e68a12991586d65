"""Active learning: which unlabelled rows are worth a label."""
