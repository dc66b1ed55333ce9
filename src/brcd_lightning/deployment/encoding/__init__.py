"""The trained model in use: images in, packed codes out, without a configuration or a data set."""
