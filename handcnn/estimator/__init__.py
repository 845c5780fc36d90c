"""A convolutional network for scikit-learn: `from handcnn.estimator import CNNClassifier`."""

from handcnn.estimator.classifier import CNNClassifier

__all__ = ["CNNClassifier"]
