"""What a model is trained on: images and tables."""
