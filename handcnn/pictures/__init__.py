"""Any picture of a digit in, a 28x28 image as MNIST drew it out."""

from handcnn.pictures.contact_sheet import save_sheet
from handcnn.pictures.preparing import prepare_picture, to_batch
from handcnn.pictures.reading import load_picture

__all__ = ["load_picture", "prepare_picture", "save_sheet", "to_batch"]
