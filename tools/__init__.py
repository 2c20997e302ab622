"""The typed tools that look at the image, their registry, and the runtimes that run them."""
