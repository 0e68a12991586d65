"""The verb ``calibrate``: classifiers over entropy coefficients and seeds, as one batch, and what each is worth."""
