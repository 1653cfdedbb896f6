"""Lightning callbacks, one for each thing that happens during a training.

Lightning's own `ModelCheckpoint`, `EarlyStopping` and `RichProgressBar` are not used: files here are atomic,
and written in a fixed order; the best model and the patience share one rule, and scores are compared in float64.
"""
