"""Classification of images and other tensors."""
