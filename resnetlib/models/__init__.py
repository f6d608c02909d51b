"""The architectures of the course: a card for each, and `build`, which makes the model.

A card is data, so that reading it takes no Keras. The code stands in the family's own file.
"""

from resnetlib.models.cards import MODELS, Card, build

__all__ = ["MODELS", "Card", "build"]
