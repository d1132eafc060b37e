"""A function of tensors as a graph: how it is traced, simplified and mapped over draws."""
