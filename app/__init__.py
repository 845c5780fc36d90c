"""What the programs share that train or evaluate: they may use data/ and handcnn/."""
