"""Model repositories of Triton Inference Server: a graph for ONNX Runtime, and a model that takes texts."""
