"""Figures: detections and truth in, numbers out; knows nothing of models."""
