"""One module per kind of model. Each has `prepare(source)`, which reads it and says what its signature is."""
