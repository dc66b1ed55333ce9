"""Knowledge distillation at the hash-code layer, one method per file."""
