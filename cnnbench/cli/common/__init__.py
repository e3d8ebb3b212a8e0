"""What the commands that run a Trainer share: parsing, the run's directory, and one line for each mistake."""
