"""Training of classifiers and regressors by the entropic loss, R of them at once (the same run axis as the agents').

``config.py`` is free of torch; the estimators of :mod:`entropic_rl.calibration` are what most people want.
"""
