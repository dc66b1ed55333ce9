"""Images to batches: dataset builders, splits, view transforms, samplers and the DataModule."""
