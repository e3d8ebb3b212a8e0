"""Head-to-head: whether two networks are one function, where they part if not, and which is better."""
