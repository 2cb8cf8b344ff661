"""Parts of methods that several solvers use; no solver is among them."""
