"""MiniLM → fused int8 ONNX graph, tokenizer, classifier head → `models/`. The only package that knows torch."""
