"""How a recipe is read, and how what is wrong with it is said in a line: for the commands and for training duels."""
