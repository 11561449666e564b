"""A run's life after its rounds: to look into it, compare, fork, thin out, and take a checkpoint away."""
