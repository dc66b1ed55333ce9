"""Export of trained models: to one ONNX file, and to a static page that searches in the browser."""
