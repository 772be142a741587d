"""Finished networks handed on: to torch, to ONNX Runtime, to files of answers."""
