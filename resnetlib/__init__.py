"""The small library of the course From Pixels to ResNets: convolutional networks you can read."""

__version__ = "0.1.0"
