"""From a directory to an image: source → recipe → builder → registry."""
