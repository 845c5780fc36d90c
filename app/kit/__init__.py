"""The class kit: handcnn, its libraries and MNIST in one folder, for rooms without a network."""
