"""Classical H&E image analysis: the baseline that every trained model is measured against."""

from models.classical.backend import ClassicalBackend

__all__ = ["ClassicalBackend"]
