"""What the project costs, beside what the engine or the network costs at the least."""
