"""Networks as functions of one parameter vector θ: dense, residual, and any torch module."""
