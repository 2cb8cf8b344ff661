"""Where decomposition pays: methods with blocks and without, by size, ranks and network."""
