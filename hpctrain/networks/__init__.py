"""Networks over one flat parameter vector."""
