"""The trained model elsewhere: as one ONNX file, and as a page that searches in the browser."""
