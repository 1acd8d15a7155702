"""`anojax.evaluate`: how well a trained detector finds real defects."""

from anojax.evaluation.session import evaluate_run as evaluate

__all__ = ["evaluate"]
