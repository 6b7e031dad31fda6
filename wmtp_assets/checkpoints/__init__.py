"""Checkpoints: readers, the safetensors writer, conversion, micro slicing, configs."""
