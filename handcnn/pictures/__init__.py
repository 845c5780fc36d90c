"""Any picture of a digit in, a 28x28 image as MNIST drew it out."""

from handcnn.pictures.preparation import load_picture, prepare_picture, save_sheet, to_batch

__all__ = ["load_picture", "prepare_picture", "save_sheet", "to_batch"]
