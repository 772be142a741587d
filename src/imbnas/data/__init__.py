"""Datasets, their splits, the long-tailed choice of rows, image stores, augmentation and samplers."""
