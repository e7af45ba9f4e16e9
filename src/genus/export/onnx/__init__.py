"""ONNX: models as graphs that ONNX Runtime computes, written and read in folders of the same layout."""
