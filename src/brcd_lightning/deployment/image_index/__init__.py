"""An index of image files: codes, paths and the model that may query them, in one folder."""
