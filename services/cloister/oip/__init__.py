"""Tensors in, tensors out: Open Inference Protocol v2 messages as NumPy arrays, and a model's contract for them."""
